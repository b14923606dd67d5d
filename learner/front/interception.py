"""What interceptors of the server share: a base, contexts around calls, refusals.

An interceptor sees a call's metadata and its handler, before anything of the body is read.
"""

from __future__ import annotations

import abc
import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
from grpc_status import rpc_status

from learner.front import statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from learner.front.refusals import Refusal

    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]
    Around = Callable[[Context], AbstractAsyncContextManager[object]]

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}

_MAKE: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Interceptor(grpc.aio.ServerInterceptor, abc.ABC):  # type: ignore[type-arg] # generic in the stubs alone
    """Says by which handler a call is served."""

    @abc.abstractmethod
    def handler_of(self, call: grpc.HandlerCallDetails, handler: Handler | None) -> Handler | None:
        """The handler that serves a call.

        Args:
            call: Its method and metadata.
            handler: The one that would; None for a method that nobody implements.
        """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See `handler_of`; gRPC takes None, too."""
        handler = await continuation(handler_call_details)
        return self.handler_of(handler_call_details, handler)  # type: ignore[return-value]


def within(
    handler: Handler, around: Around, parse: Callable[[Any], object] | None = None
) -> Handler:
    """A handler every call of which runs within a context of its own.

    Args:
        handler: Of any kind of call.
        around: Makes the context, which sees what the call raises.
        parse: Makes a single request from its bytes, within the context; the handler's own
            deserializer does so before it by default.
    """
    serve: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )

    async def answer(request: object, context: Context) -> object:
        async with around(context):
            return await serve(parse(request) if parse else request, context)

    async def stream(request: object, context: Context) -> AsyncIterator[object]:
        async with around(context):
            async for response in serve(parse(request) if parse else request, context):
                yield response

    made: Handler = _MAKE[handler.request_streaming, handler.response_streaming](
        stream if handler.response_streaming else answer,
        None if parse else handler.request_deserializer,
        handler.response_serializer,
    )
    return made


def code_of(context: Context, error: BaseException) -> str:
    """The name of the status that a call ended with."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _CODES.get(code, "UNKNOWN") if code else "UNKNOWN"


async def abort(context: Context, refusal: Refusal) -> NoReturn:
    """Ends a call with the status of a refusal."""
    status = rpc_status.to_status(statuses.to_status(refusal))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort returns never")
