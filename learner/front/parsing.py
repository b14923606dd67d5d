"""The interceptor that refuses what is no message, and knows how large one was.

gRPC alone answers UNKNOWN to bytes that are no message, which clients repeat.
"""

from __future__ import annotations

import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from common.errors import Reason
from common.statuses import Code
from learner.front.interception import Interceptor, abort, within
from learner.front.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import grpc

    from learner.front.interception import Context, Handler

request_bytes: contextvars.ContextVar[int] = contextvars.ContextVar("request_bytes", default=0)
"""How many bytes the request had that the current call is about.

A message itself tells that only by being serialised, which takes longer than parsing it did.
"""


class Parsing(Interceptor):
    """Stands behind all other interceptors."""

    def handler_of(self, call: grpc.HandlerCallDetails, handler: Handler | None) -> Handler | None:
        """The handler of a call, which gets messages only."""
        del call
        if handler is None or handler.request_streaming:
            return handler
        return within(handler, _refusing_garbage, _parser(handler.request_deserializer))


def _parser(deserializer: Any) -> Callable[[bytes], object]:  # noqa: ANN401 - the stubs': any
    def parse(data: bytes) -> object:
        request_bytes.set(len(data))
        return deserializer(data)

    return parse


@contextlib.asynccontextmanager
async def _refusing_garbage(context: Context) -> AsyncIterator[None]:
    try:
        yield
    except DecodeError:
        refusal = Refusal(
            Code.INVALID_ARGUMENT,
            Reason.INVALID_REQUEST,
            "the bytes sent are no message of the contract; encode what protos/wiserl/v1 declares "
            "for this call",
        )
        await abort(context, refusal)
