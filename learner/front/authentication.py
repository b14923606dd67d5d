"""The interceptor that refuses a call by its metadata, before anything of its body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_status import rpc_status

from common.security import TOKEN_METADATA
from learner.front import statuses
from learner.front.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from learner.front.tokens import Tokens

_HEALTH = "/grpc.health.v1.Health/"
"""Open to whoever gets through TLS, as load balancers expect; it says no more than a status."""


class Authentication(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs alone
    """Lets those calls through whose token allows them.

    Args:
        tokens: Those that are known.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a call, or one that refuses it."""
        method = handler_call_details.method
        if method.startswith(_HEALTH):
            return await continuation(handler_call_details)
        metadata = {str(key): value for key, value in handler_call_details.invocation_metadata}
        authorization = metadata.get(TOKEN_METADATA)
        try:
            self._tokens.check(method, authorization if isinstance(authorization, str) else None)
        except Refusal as refusal:
            return _refusing(refusal)
        return await continuation(handler_call_details)


def _refusing(refusal: Refusal) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler for any kind of call.

    Of a stream of requests nothing is received until the handler asks for it, which this one never
    does: 64 MiB of a stranger's stay with the stranger.
    """

    async def refuse(
        _: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        status = rpc_status.to_status(statuses.to_status(refusal))
        await context.abort(status.code, status.details, status.trailing_metadata)
        yield b""  # makes it the generator that a handler of streams is

    return grpc.stream_stream_rpc_method_handler(refuse)
