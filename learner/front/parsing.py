"""The interceptor that refuses what is no message.

gRPC alone answers UNKNOWN, which clients repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from common.errors import Reason
from common.statuses import Code
from learner.front import statuses
from learner.front.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]


class Parsing(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs alone
    """Stands behind all other interceptors."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of a call, which gets messages only."""
        handler = await continuation(handler_call_details)
        if not handler or handler.request_streaming:
            return handler
        parse = _parser(handler.request_deserializer)
        if handler.response_streaming:
            streams = _streaming(handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(streams, parse, handler.response_serializer)
        answers = _answering(handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(answers, parse, handler.response_serializer)


def _parser(deserializer: Any) -> Callable[[bytes], object]:  # noqa: ANN401 - the stubs': any
    """The same, but None for bytes that are no message: it cannot end the call itself."""

    def parse(data: bytes) -> object:
        try:
            return deserializer(data)
        except DecodeError:
            return None

    return parse


def _answering(handle: Any) -> Any:  # noqa: ANN401 - as gRPC has it
    async def answer(request: object, context: Context) -> object:
        if request is None:
            await _refuse(context)
        return await handle(request, context)

    return answer


def _streaming(handle: Any) -> Any:  # noqa: ANN401 - as gRPC has it
    async def stream(request: object, context: Context) -> AsyncIterator[object]:
        if request is None:
            await _refuse(context)
        async for response in handle(request, context):
            yield response

    return stream


async def _refuse(context: Context) -> None:
    refusal = Refusal(
        Code.INVALID_ARGUMENT,
        Reason.INVALID_REQUEST,
        "the bytes sent are no message of the contract; encode what protos/wiserl/v1 declares for "
        "this call",
    )
    status = rpc_status.to_status(statuses.to_status(refusal))
    await context.abort(status.code, status.details, status.trailing_metadata)
