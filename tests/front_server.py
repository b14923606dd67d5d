"""Talking to a real server of the front."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from common import statuses
from common.channel import open_channel
from protos.wiserl.v1 import learner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from learner.front.server import FrontServer

SECONDS = 20


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
