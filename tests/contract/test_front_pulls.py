"""Pulls from a real server: they wait, end each other, and keep a lease."""

import asyncio
import time

from front_server import (
    SECONDS,
    call,
    held_pull,
    join,
    open_round,
    pull_after,
    reached,
    refused,
)
from front_support import A, publication, pull_request, register_request

from common.errors import Reason
from common.statuses import Code
from learner.front import server as front_server
from learner.front.settings import Limits


def test_a_version_that_is_gone(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        await join(stub)
        return await refused(stub.PullWeights(pull_request(A, version=9), timeout=SECONDS))

    status = call(server, talk)
    assert (status.code, status.reason) == (Code.NOT_FOUND, Reason.VERSION_GONE)


def test_a_second_pull_ends_the_first(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        first, known = await held_pull(server, stub)
        known.wait_milliseconds = 0
        await stub.PullWeights(known, timeout=SECONDS)
        return await refused(first)

    status = call(server, talk)
    assert (status.code, status.reason) == (Code.CANCELLED, Reason.SUPERSEDED)


def test_a_waiting_pull_is_answered_by_a_publication(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        waiting, _ = await held_pull(server, stub)
        with server.locked() as coordinator:
            coordinator.publish(publication(2))
        return await waiting

    news = call(server, talk)
    assert (news.version, news.HasField("model"), news.HasField("golden")) == (2, True, False)


def test_a_pull_without_news_is_answered_after_its_wait(serve):
    server = serve(limits=Limits(wait_milliseconds=100))
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        return news, await stub.PullWeights(pull_after(news), timeout=SECONDS)

    news, later = call(server, talk)
    assert later.grants == news.grants
    assert not later.HasField("model")


def test_a_lease_ends_by_itself(serve):
    """Nobody calls: the server's own clock ends the lease, and training is told."""
    server = serve(limits=Limits(wait_milliseconds=100, lease_milliseconds=300))
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
