"""Held pushes over a real server: answered when there is room, and never stored unanswered."""

import asyncio
import collections
import contextlib
import threading

import grpc
import pytest
from front_server import SECONDS, call, reached, refused
from front_support import (
    COLUMNS,
    A,
    Part,
    make_batch,
    publication,
    push_request,
    register_request,
)

from common.errors import Reason
from common.statuses import Code
from learner.experience.replay import ReplaySettings, ReplayStore
from learner.front.settings import Limits
from learner.front.sharing import pushes_of
from learner.rate_limiter import LimiterSettings, RateLimiter
from protos.wiserl.v1 import learner_pb2

ACCEPTED, ENDED = learner_pb2.VERDICT_ACCEPTED, learner_pb2.VERDICT_ENDED


@pytest.fixture
def flowing(serve):
    """Starts servers of a replay that has room for one push of a fragment."""

    def start(*, window=1, **settings):
        server = serve(**settings)
        store = ReplayStore(
            COLUMNS, ReplaySettings(capacity=4096, block_rows=2, gamma=0.99), seed=1
        )
        limiter = RateLimiter(LimiterSettings(1.0, 0, window), can_sample=lambda: store.size > 0)
        with server.locked() as coordinator:
            coordinator.publish(publication(1))
            coordinator.open_replay(server.now(), store, limiter, fragments_in_flight=4)
        return server, store

    return start


def push_of(sequence, sampler=A, base=0):
    batch = make_batch(1, [Part(0, 2 * sequence, base)])
    return push_request(sampler, sequence, 0, batch)


def updated(server, count):
    with server.locked() as coordinator:
        coordinator.updated(count)


async def fill(stub):
    """Takes all the room there is with A's first push."""
    await stub.Register(register_request(A, 1), timeout=SECONDS)
    await stub.PushTrajectories(push_of(1), timeout=SECONDS)


async def held(server, stub, sequence=2):
    """A push that waits in the server, behind one that took the room."""
    await fill(stub)
    waiting = stub.PushTrajectories(push_of(sequence), timeout=SECONDS)
    await reached(server, pushes_of(A))
    return waiting


def test_an_update_makes_room(flowing):
    server, store = flowing()

    async def talk(stub):
        waiting = await held(server, stub)
        updated(server, 2)
        return (await waiting).verdict

    assert call(server, talk) == ACCEPTED
    assert store.inserted == 4


def test_a_push_that_finds_no_room_is_told_when_to_come_again(flowing):
    server, store = flowing(limits=Limits(push_deadline_milliseconds=150))

    async def talk(stub):
        await fill(stub)
        # It is sent away so soon that to look for it where it waits might be too late.
        status = await refused(stub.PushTrajectories(push_of(2), timeout=SECONDS))
        updated(server, 2)
        return status, await stub.PushTrajectories(push_of(2), timeout=SECONDS)

    status, again = call(server, talk)
    assert (status.code, status.reason) == (Code.RESOURCE_EXHAUSTED, Reason.NO_ROOM)
    assert status.retry_seconds == 0.25
    assert again.verdict == ACCEPTED
    assert store.inserted == 4


def test_a_later_attempt_takes_the_place_of_the_first(flowing):
    server, store = flowing()

    async def talk(stub):
        first = await held(server, stub)
        second = stub.PushTrajectories(push_of(2), timeout=SECONDS)
        status = await refused(first)
        await reached(server, pushes_of(A))
        updated(server, 2)
        return status, (await second).verdict

    status, verdict = call(server, talk)
    assert (status.code, status.reason) == (Code.CANCELLED, Reason.SUPERSEDED)
    assert verdict == ACCEPTED
    assert store.inserted == 4


def test_a_caller_who_hangs_up_leaves_nothing(flowing):
    server, store = flowing()

    async def talk(stub):
        waiting = await held(server, stub)
        waiting.cancel()
        await reached(server, pushes_of(A), 0)
        updated(server, 2)
        await stub.GetRun(learner_pb2.GetRunRequest(), timeout=SECONDS)
        before = store.inserted
        return before, (await stub.PushTrajectories(push_of(2), timeout=SECONDS)).verdict

    assert call(server, talk) == (2, ACCEPTED)
    assert store.inserted == 4


def test_a_deadline_that_passes_leaves_nothing(flowing):
    server, store = flowing()

    async def talk(stub):
        await held(server, stub)
        status = await refused(stub.PushTrajectories(push_of(2), timeout=0.2))
        await reached(server, pushes_of(A), 0)
        updated(server, 2)
        before = store.inserted
        return status, before, await stub.PushTrajectories(push_of(2), timeout=SECONDS)

    status, before, again = call(server, talk)
    assert (status.code, before, again.verdict) == (Code.DEADLINE_EXCEEDED, 2, ACCEPTED)


def test_a_new_registration_ends_what_its_sampler_had_in_flight(flowing):
    server, store = flowing()

    async def talk(stub):
        waiting = await held(server, stub)
        response = await stub.Register(register_request(A, 1), timeout=SECONDS)
        status = await refused(waiting)
        updated(server, 2)
        fresh = push_of(response.last_sequence + 1, base=response.incarnation_base)
        return status, await stub.PushTrajectories(fresh, timeout=SECONDS)

    status, fresh = call(server, talk)
    assert (status.code, status.reason) == (Code.CANCELLED, Reason.SUPERSEDED)
    assert fresh.verdict == ACCEPTED
    assert store.inserted == 4


@pytest.mark.parametrize("end", ["drain", "finish"])
def test_the_end_is_told_to_whoever_is_held(flowing, end):
    server, store = flowing()

    async def talk(stub):
        waiting = await held(server, stub)
        with server.locked() as coordinator:
            if end == "drain":
                coordinator.drain()
            else:
                coordinator.finish("done")
        if end == "drain":
            return (await refused(waiting)).reason
        return (await waiting).verdict

    assert call(server, talk) == (Reason.DRAINING if end == "drain" else ENDED)
    assert store.inserted == 2


async def pushes(stub, name):
    """A sampler that pushes until the budget is met, again and again; answers how often."""
    base = (await stub.Register(register_request(name, 1), timeout=SECONDS)).incarnation_base
    sequence = 1
    while (verdict := await answered(stub, push_of(sequence, name, base))) == ACCEPTED:
        sequence += 1
    assert verdict == ENDED
    return sequence - 1


async def answered(stub, request):
    """The final answer to a push; sent away, it comes again at once."""
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            return (await stub.PushTrajectories(request, timeout=SECONDS)).verdict


def train(server):
    """Takes every gradient step that is due, until the budget is met and none is left."""
    while steps := server.wait(lambda c: c.updates_due() or (0 if c.budget_met else None)):
        updated(server, steps)


@pytest.mark.parametrize("window", [1, 50])
def test_many_samplers_and_a_learner_meet_the_budget(flowing, window):
    """Everybody waits for somebody now and then, pushes are sent away, and it ends: exactly."""
    budget = 301
    # Nobody pulls: the leases must last for as long as all this takes.
    limits = Limits(push_deadline_milliseconds=30, lease_milliseconds=60_000)
    server, store = flowing(total_steps=budget, window=window, limits=limits)
    thread = threading.Thread(target=train, args=[server], daemon=True)
    thread.start()

    async def talk(stub):
        return await asyncio.gather(*(pushes(stub, f"sampler-{i}") for i in range(6)))

    accepted = call(server, talk)
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert store.inserted == budget
    counts = collections.Counter(key.sampler for key in store.dump().keys)
    assert sorted(counts.values()) == sorted(2 * count for count in accepted if count)
    with server.locked() as coordinator:
        assert coordinator.environment_steps == budget
        assert coordinator.updates_due() == 0
