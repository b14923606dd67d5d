"""The interceptor that refuses a call by its metadata, before anything of its body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from common.security import TOKEN_METADATA
from learner.front.interception import Interceptor, abort
from learner.front.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from learner.front.interception import Context, Handler
    from learner.front.tokens import Tokens

_HEALTH = "/grpc.health.v1.Health/"
"""Open to whoever gets through TLS, as load balancers expect; it says no more than a status."""


class Authentication(Interceptor):
    """Lets those calls through whose token allows them.

    Args:
        tokens: Those that are known.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def handler_of(self, call: grpc.HandlerCallDetails, handler: Handler | None) -> Handler | None:
        """The handler of a call, or one that refuses it."""
        if call.method.startswith(_HEALTH):
            return handler
        metadata = {str(key): value for key, value in call.invocation_metadata}
        authorization = metadata.get(TOKEN_METADATA)
        try:
            self._tokens.check(
                call.method, authorization if isinstance(authorization, str) else None
            )
        except Refusal as refusal:
            return _refusing(refusal)
        return handler


def _refusing(refusal: Refusal) -> Handler:
    """A handler for any kind of call.

    Of a stream of requests nothing is received until the handler asks for it, which this one never
    does: 64 MiB of a stranger's stay with the stranger.
    """

    async def refuse(_: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        await abort(context, refusal)
        yield b""  # makes it the generator that a handler of streams is

    return grpc.stream_stream_rpc_method_handler(refuse)
