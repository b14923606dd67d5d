"""Talking to a real server of the front."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from front_support import A, publication, pull_request, register_request

from common import statuses
from common.channel import open_channel
from learner.front.server import FrontServer
from protos.wiserl.v1 import learner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from learner.front.coordinator import Coordinator
    from protos.wiserl.v1 import learner_pb2

SECONDS = 20


@contextlib.contextmanager
def running(coordinator: Coordinator, **options: Any) -> Iterator[FrontServer]:
    """A server of a run, until the test is through with it; see `FrontServer` for the options."""
    server = FrontServer(coordinator, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def call(server: FrontServer, talk: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    """Runs `talk(stub)` on a loop and a channel of its own."""

    async def run() -> Any:
        async with open_channel(server.address, **options) as channel:
            return await asyncio.wait_for(talk(learner_pb2_grpc.LearnerServiceStub(channel)), 60)

    return asyncio.run(run())


async def refused(awaitable: Awaitable[Any]) -> statuses.Status:
    """The status of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return statuses.read(caught.value)


async def reached(server: FrontServer, name: str, count: int = 1) -> None:
    """Returns when so many calls wait in the server under this name; polls, as nothing tells."""
    while len(server._shared._waiters.get(name, ())) != count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def open_round(server: FrontServer, n_envs: int = 2) -> None:
    """Publishes a version and opens a round of it, of two rows."""
    with server.locked() as coordinator:
        coordinator.publish(publication(coordinator.newest_version + 1))
        coordinator.open_round(server.now(), n_envs=n_envs, n_steps=2)


async def join(stub: Any, sampler_id: str = A, **fields: object) -> Any:
    """Registers and pulls once."""
    await stub.Register(register_request(sampler_id, **fields), timeout=SECONDS)
    return await stub.PullWeights(pull_request(sampler_id), timeout=SECONDS)


def pull_after(news: learner_pb2.PullWeightsResponse) -> learner_pb2.PullWeightsRequest:
    """A pull of A's that has all that it was told."""
    return pull_request(
        A,
        have_version=news.version,
        have_model_sha256=news.model_sha256,
        have_grants_revision=news.grants_revision,
    )


async def held_pull(server: FrontServer, stub: Any) -> tuple[Any, learner_pb2.PullWeightsRequest]:
    """A call of A's that waits in the server for news, and what it asks."""
    known = pull_after(await join(stub))
    waiting = stub.PullWeights(known, timeout=SECONDS)
    await reached(server, A)
    return waiting, known
