"""The contract over a real server on port 0: every RPC, every status code with its details."""

import asyncio
import hashlib
import time

import grpc
import numpy as np
import pytest
from front_malformed import MALFORMED
from front_server import SECONDS, call, reached, refused
from front_support import (
    COLUMNS,
    RUN,
    SIGNATURE,
    SPEC,
    Part,
    column_arrays,
    make_batch,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    register_request,
    report_request,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common import signature, spaces, specs
from common.channel import open_channel
from common.errors import Reason
from common.statuses import Code
from learner.experience.columns import fragment_bytes
from learner.front import server as front_server
from learner.front.security import AddressError
from learner.front.server import SERVICE_NAME, FrontServer
from learner.front.settings import Limits
from protos.wiserl.v1 import learner_pb2

A, B = "sampler-a", "sampler-b"
QUICK = Limits(wait_milliseconds=100, lease_milliseconds=300)

GetRun = learner_pb2.GetRunRequest()


def open_round(server, n_envs=2):
    with server.locked() as coordinator:
        coordinator.publish(publication(coordinator.newest_version + 1))
        coordinator.open_round(server.now(), n_envs=n_envs, n_steps=2)


def good_push(grant_id, sequence=1):
    return push_request(A, sequence, grant_id, make_batch(1, [Part(0, ends=(1,)), Part(1)]))


async def join(stub, sampler_id=A, **fields):
    """Registers and pulls once."""
    await stub.Register(register_request(sampler_id, **fields), timeout=SECONDS)
    return await stub.PullWeights(pull_request(sampler_id), timeout=SECONDS)


def test_a_run_from_get_run_to_finish(serve):
    server = serve(is_open=False, total_steps=4, limits=Limits(wait_milliseconds=100))

    async def sampler(stub):
        run = await stub.GetRun(GetRun, timeout=SECONDS)
        assert run.run_id == RUN
        assert run.limits.max_message_bytes == 64 << 20
        registered = await stub.Register(register_request(A), timeout=SECONDS)
        assert signature.from_proto(registered.signature).columns == COLUMNS
        news = await stub.PullWeights(pull_request(A), timeout=SECONDS)
        assert hashlib.sha256(news.model).digest() == news.model_sha256
        assert news.golden.inputs
        news = await stub.PullWeights(
            pull_request(A, have_version=1, have_grants_revision=news.grants_revision),
            timeout=SECONDS,
        )
        (grant,) = news.grants
        pushed = await stub.PushTrajectories(good_push(grant.grant_id), timeout=SECONDS)
        assert (pushed.verdict, pushed.newest_version) == (learner_pb2.VERDICT_ACCEPTED, 1)
        pushed = await stub.PushTrajectories(good_push(grant.grant_id), timeout=SECONDS)
        assert pushed.verdict == learner_pb2.VERDICT_DUPLICATE
        while not (work := await next_grants(stub, news.grants_revision))[0].HasField("evaluate"):
            pass
        report = report_request(A, work[0].evaluate.evaluation_id, 1, {7: 1.0, 8: 2.0})
        assert (await stub.ReportEpisodes(report, timeout=SECONDS)).accepted == 2
        while not (work := await next_grants(stub, 0))[0].HasField("finish"):
            pass
        pushed = await stub.PushTrajectories(good_push(grant.grant_id, 2), timeout=SECONDS)
        assert pushed.verdict == learner_pb2.VERDICT_ENDED
        return work[0].finish.reason

    async def next_grants(stub, revision):
        request = pull_request(A, have_version=1, have_grants_revision=revision)
        return (await stub.PullWeights(request, timeout=SECONDS)).grants[::-1]

    def train():
        assert server.wait(lambda coordinator: coordinator.spec) == SPEC
        with server.locked() as coordinator:
            coordinator.open_run(SIGNATURE, fragment_rows=2)
            coordinator.publish(publication(1))
        server.wait(lambda coordinator: coordinator.samplers)
        with server.locked() as coordinator:
            coordinator.open_round(server.now(), n_envs=2, n_steps=2)
        batch = server.wait(lambda coordinator: coordinator.closed_round())
        with server.locked() as coordinator:
            evaluation = coordinator.start_evaluation(server.now(), [7, 8])
        episodes = server.wait(lambda coordinator: coordinator.finished_evaluation(evaluation))
        with server.locked() as coordinator:
            coordinator.finish("4 of 4 steps done")
        server.wait(lambda coordinator: coordinator.all_informed(server.now()) or None)
        return batch.steps, [episode.episode.episode_return for episode in episodes]

    async def both(stub):
        return await asyncio.gather(sampler(stub), asyncio.to_thread(train))

    assert call(server, both) == ["4 of 4 steps done", (4, [1.0, 2.0])]


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_pushes_name_their_field_and_leave_nothing(serve, name):
    server = serve()
    open_round(server)
    spoil, field = MALFORMED[name]

    async def talk(stub):
        grant = (await join(stub)).grants[0].grant_id
        request = good_push(grant)
        spoil(request)
        status = await refused(stub.PushTrajectories(request, timeout=SECONDS))
        return status, await stub.PushTrajectories(good_push(grant, 2), timeout=SECONDS)

    status, pushed = call(server, talk)
    assert (status.code, status.reason) == (Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST)
    assert [violation.field for violation in status.violations] == [field]
    assert status.retry_seconds is None
    # The refused fragments stayed granted, and nothing of the refused push is in the round.
    assert pushed.verdict == learner_pb2.VERDICT_ACCEPTED
    expected = column_arrays([Part(0, ends=(1,)), Part(1)], 2)
    found = server.wait(lambda coordinator: coordinator.closed_round())
    assert all(np.array_equal(found.columns[key], expected[key]) for key in expected)
    assert (found.steps, len(found.episodes), len(found.final_rows)) == (4, 1, 0)


@pytest.mark.parametrize("rpc", ["Register", "PullWeights", "PushTrajectories", "ReportEpisodes"])
def test_another_run(serve, rpc):
    server = serve()
    requests = {
        "Register": register_request(A, run_id="run-2"),
        "PullWeights": pull_request(A, run_id="run-2"),
        "PushTrajectories": learner_pb2.PushTrajectoriesRequest(run_id="run-2"),
        "ReportEpisodes": learner_pb2.ReportEpisodesRequest(),
    }
    status = call(server, lambda stub: refused(getattr(stub, rpc)(requests[rpc], timeout=SECONDS)))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, Reason.RUN_CHANGED)


@pytest.mark.parametrize("rpc", ["PullWeights", "PushTrajectories", "ReportEpisodes"])
def test_an_unknown_sampler(serve, rpc):
    server = serve()
    requests = {
        "PullWeights": pull_request(A),
        "PushTrajectories": good_push(1),
        "ReportEpisodes": report_request(A, 1, 1, {}),
    }
    status = call(server, lambda stub: refused(getattr(stub, rpc)(requests[rpc], timeout=SECONDS)))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, Reason.UNKNOWN_SAMPLER)


def registrations(serve, *requests, refuse=None, **settings):
    """What these registrations, one after the other, are answered: the last one's status."""
    server = serve(**settings)
    if refuse:
        with server.locked() as coordinator:
            coordinator.refuse_environment(refuse)

    async def talk(stub):
        for request in requests[:-1]:
            await stub.Register(request, timeout=SECONDS)
        return await refused(stub.Register(requests[-1], timeout=SECONDS))

    return call(server, talk)


def test_another_protocol_version(serve):
    status = registrations(serve, register_request(A, protocol_version=2))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, Reason.PROTOCOL_MISMATCH)


def test_another_spec(serve):
    other = specs.single_agent(SPEC.agent.observation, spaces.Discrete(3))
    status = registrations(
        serve, register_request(A), register_request(B, spec=specs.to_proto(other))
    )
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, Reason.SPEC_MISMATCH)
    assert "n=3" in status.message


def test_an_unsupported_environment(serve):
    status = registrations(serve, register_request(A), refuse="use PPO", is_open=False)
    expected = (Code.FAILED_PRECONDITION, Reason.ENVIRONMENT_UNSUPPORTED, "use PPO")
    assert (status.code, status.reason, status.message) == expected


def test_a_malformed_registration(serve):
    status = registrations(serve, register_request(A, slots=0))
    assert (status.code, status.reason) == (Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST)
    assert status.violations[0].field == "slots"


def test_a_fragment_above_the_limit(serve):
    limit = fragment_bytes(COLUMNS, 1000)
    limits = Limits(max_message_bytes=limit)
    status = registrations(serve, register_request(A), rows=1000, limits=limits)
    assert (status.code, status.reason) == (Code.RESOURCE_EXHAUSTED, Reason.TOO_LARGE)
    assert status.retry_seconds is None


def test_no_memory_for_pushes(serve):
    status = registrations(serve, register_request(A), limits=Limits(push_budget_bytes=10))
    assert (status.code, status.reason) == (Code.RESOURCE_EXHAUSTED, Reason.NO_ROOM)
    assert status.retry_seconds is None


def test_more_slots_than_agreed(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub, max_slots_per_push=1)
        return await refused(
            stub.PushTrajectories(good_push(news.grants[0].grant_id), timeout=SECONDS)
        )

    status = call(server, talk)
    assert (status.code, status.reason) == (Code.RESOURCE_EXHAUSTED, Reason.TOO_LARGE)


def test_a_message_above_the_transport_limit(serve):
    server = serve(limits=Limits(max_message_bytes=8 << 10))

    async def talk(stub):
        request = register_request(A, name="n" * (16 << 10))
        return await refused(stub.Register(request, timeout=SECONDS))

    status = call(server, talk)
    assert status.code == Code.RESOURCE_EXHAUSTED
    assert status.retry_seconds is None


@pytest.mark.parametrize("rpc", ["Register", "PushTrajectories", "WatchRun"])
def test_bytes_that_are_no_message(serve, rpc):
    server = serve()

    async def talk():
        async with open_channel(server.address) as channel:
            call = channel.unary_stream if rpc == "WatchRun" else channel.unary_unary
            answer = call(f"/{SERVICE_NAME}/{rpc}")(b"\xff" * 9, timeout=SECONDS)
            return await refused(answer.read() if rpc == "WatchRun" else answer)

    status = asyncio.run(talk())
    assert (status.code, status.reason) == (Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST)


def test_stale_and_unknown_grants(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        other = good_push(news.grants[0].grant_id + 1)
        first = await stub.PushTrajectories(other, timeout=SECONDS)
        again = await stub.PushTrajectories(other, timeout=SECONDS)
        return first.verdict, again.verdict

    assert call(server, talk) == (learner_pb2.VERDICT_STALE, learner_pb2.VERDICT_STALE)


def test_a_version_that_is_gone(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        await join(stub)
        return await refused(stub.PullWeights(pull_request(A, version=9), timeout=SECONDS))

    status = call(server, talk)
    assert (status.code, status.reason) == (Code.NOT_FOUND, Reason.VERSION_GONE)


def test_a_report_that_is_no_number(serve):
    server = serve()

    async def talk(stub):
        await stub.Register(register_request(A), timeout=SECONDS)
        request = report_request(A, 1, 1, {1: float("nan")})
        return await refused(stub.ReportEpisodes(request, timeout=SECONDS))

    status = call(server, talk)
    assert status.code == Code.INVALID_ARGUMENT
    assert status.violations[0].field == "episodes[0].episode.episode_return"


def test_a_second_pull_ends_the_first(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        known = pull_request(A, have_version=1, have_grants_revision=news.grants_revision)
        first = stub.PullWeights(known, timeout=SECONDS)
        await reached(server, A)
        known.wait_milliseconds = 0
        await stub.PullWeights(known, timeout=SECONDS)
        return await refused(first)

    status = call(server, talk)
    assert (status.code, status.reason) == (Code.CANCELLED, Reason.SUPERSEDED)


def test_a_waiting_pull_is_answered_by_a_publication(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        known = pull_request(
            A,
            have_version=1,
            have_model_sha256=news.model_sha256,
            have_grants_revision=news.grants_revision,
        )
        waiting = stub.PullWeights(known, timeout=SECONDS)
        await reached(server, A)
        with server.locked() as coordinator:
            coordinator.publish(publication(2))
        return await waiting

    news = call(server, talk)
    assert (news.version, news.HasField("model"), news.HasField("golden")) == (2, True, False)


def test_a_pull_without_news_is_answered_after_its_wait(serve):
    server = serve(limits=QUICK)
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        sha = news.model_sha256
        known = pull_request(
            A,
            have_version=1,
            have_model_sha256=sha,
            have_grants_revision=news.grants_revision,
        )
        return news, await stub.PullWeights(known, timeout=SECONDS)

    news, later = call(server, talk)
    assert later.grants == news.grants
    assert not later.HasField("model")


def test_a_lease_ends_by_itself(serve):
    """Nobody calls: the server's own clock ends the lease, and training is told."""
    server = serve(limits=QUICK)
    call(server, lambda stub: stub.Register(register_request(A), timeout=SECONDS))
    assert server.wait(lambda coordinator: coordinator.samplers == 0 or None)


def test_a_standstill_of_the_learner_ends_no_lease(serve, monkeypatch):
    """The process was stopped for longer than a lease: calls that queued up are heard first."""
    monkeypatch.setattr(front_server, "CATCH_UP_SECONDS", 2.0)
    server = serve()
    call(server, lambda stub: stub.Register(register_request(A), timeout=SECONDS))
    ticks = []
    with server.locked() as coordinator:
        tick = coordinator.tick
        coordinator.tick = lambda now: (tick(now), ticks.append(now))
        clock = server._shared._clock
        server._shared._clock = lambda: clock() + 1000
        coordinator.publish(publication(1))  # wakes the server's own house

    call(server, lambda stub: stub.PullWeights(pull_request(A), timeout=SECONDS))
    while not ticks:
        time.sleep(0.01)
    with server.locked() as coordinator:
        assert coordinator.samplers == 1


def test_a_cancelled_pull_leaves_no_waiter(serve):
    server = serve()

    async def talk(stub):
        news = await join(stub)
        known = pull_request(A, have_grants_revision=news.grants_revision)
        waiting = stub.PullWeights(known, timeout=SECONDS)
        await reached(server, A)
        waiting.cancel()
        while server._shared._waiters.get(A):  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    call(server, talk)


def test_draining_answers_every_call_unavailable(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        known = pull_request(A, have_version=1, have_grants_revision=news.grants_revision)
        waiting = stub.PullWeights(known, timeout=SECONDS)
        await reached(server, A)
        with server.locked() as coordinator:
            coordinator.drain()
        found = [await refused(waiting)]
        for rpc, request in (
            ("GetRun", GetRun),
            ("Register", register_request(B)),
            ("PullWeights", pull_request(A)),
            ("PushTrajectories", good_push(1)),
            ("ReportEpisodes", report_request(A, 1, 1, {})),
        ):
            found.append(await refused(getattr(stub, rpc)(request, timeout=SECONDS)))
        return found

    for status in call(server, talk):
        assert (status.code, status.reason) == (Code.UNAVAILABLE, Reason.DRAINING)


def test_a_registration_that_waits_is_told_of_draining(serve):
    server = serve(is_open=False)

    async def talk(stub):
        waiting = stub.Register(register_request(A), timeout=SECONDS)
        await reached(server, "", 2)  # the other one keeps the server's own house
        with server.locked() as coordinator:
            coordinator.drain()
        return await refused(waiting)

    status = call(server, talk)
    assert (status.code, status.reason) == (Code.UNAVAILABLE, Reason.DRAINING)


def test_a_defect_is_internal_and_tells_nothing(serve, monkeypatch):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        with server.locked() as coordinator:
            monkeypatch.setattr(coordinator._intake._checks, "segment", secret)
        push = good_push(news.grants[0].grant_id)
        status = await refused(stub.PushTrajectories(push, timeout=SECONDS))
        monkeypatch.undo()
        return status, (await stub.PushTrajectories(push, timeout=SECONDS)).verdict

    def secret(_):
        raise KeyError("/secret/path")

    status, verdict = call(server, talk)
    assert (status.code, status.reason) == (Code.INTERNAL, Reason.DEFECT)
    assert "secret" not in str(status)
    assert verdict == learner_pb2.VERDICT_ACCEPTED


def test_watching_a_run(serve):
    server = serve(total_steps=4)
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        request = learner_pb2.WatchRunRequest(run_id=RUN, interval_milliseconds=1)
        stream = stub.WatchRun(request, timeout=SECONDS)
        states = [await stream.read()]
        await stub.PushTrajectories(good_push(news.grants[0].grant_id), timeout=SECONDS)
        while not states[-1].curve:
            states.append(await stream.read())
        states.append(await stream.read())
        with server.locked() as coordinator:
            coordinator.finish("done")
        while (state := await stream.read()) != grpc.aio.EOF:
            states.append(state)
        return states

    states = call(server, talk)
    assert states[0].phase == learner_pb2.RUN_PHASE_TRAINING
    assert [status.sampler_id for status in states[0].samplers] == [A]
    points = [(point.environment_steps, point.episode_return) for s in states for point in s.curve]
    assert points == [(4, 1.0)]
    assert states[-1].phase == learner_pb2.RUN_PHASE_FINISHED
    assert states[-1].environment_steps == states[-1].total_steps == 4


def test_watching_a_learner_that_drains(serve):
    server = serve()

    async def talk(stub):
        stream = stub.WatchRun(learner_pb2.WatchRunRequest(), timeout=SECONDS)
        await stream.read()
        with server.locked() as coordinator:
            coordinator.drain()
        return await stream.read(), await refused(stream.read())

    state, status = call(server, talk)
    assert state.phase == learner_pb2.RUN_PHASE_DRAINING
    assert status.code == Code.UNAVAILABLE


def test_watching_another_run(serve):
    server = serve()

    async def talk(stub):
        request = learner_pb2.WatchRunRequest(run_id="run-2")
        return await refused(stub.WatchRun(request, timeout=SECONDS).read())

    assert call(server, talk).reason == Reason.RUN_CHANGED


def test_health(serve):
    server = serve()

    async def check(channel):
        stub = health_pb2_grpc.HealthStub(channel)
        return [
            (await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)).status
            for name in ("", SERVICE_NAME)
        ]

    async def run():
        async with open_channel(server.address) as channel:
            before = await check(channel)
            with server.locked() as coordinator:
                coordinator.drain()
            # The health service follows when the loop next turns.
            while (after := await check(channel)) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            return before, after

    before, after = asyncio.run(run())
    assert set(before) == {health_pb2.HealthCheckResponse.SERVING}
    assert health_pb2.HealthCheckResponse.NOT_SERVING in after


def test_a_port_is_one_learner_s(serve):
    server = serve()
    other = FrontServer(make_coordinator(), server.address)
    with pytest.raises(AddressError, match="is the port taken"):
        other.start()
    other.stop()


def test_stopping_twice_is_fine(serve):
    server = serve()
    server.stop()
    server.stop()
