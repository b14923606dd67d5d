"""The interceptor that gives every call a span, in the trace of whoever called."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from learner.front.interception import Interceptor, code_of, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from common.tracing import Tracing
    from learner.front.interception import Context, Handler


class CallTracing(Interceptor):
    """Stands behind the authentication: a stranger's calls are in nobody's trace.

    Streams are left out: they last as long as somebody watches.

    Args:
        tracing: Where the spans go.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def handler_of(self, call: grpc.HandlerCallDetails, handler: Handler | None) -> Handler | None:
        """The handler of a call, within a span."""
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        method, metadata = call.method.removeprefix("/"), call.invocation_metadata
        return within(handler, lambda context: self._spanned(context, method, metadata))

    @contextlib.asynccontextmanager
    async def _spanned(
        self, context: Context, method: str, metadata: tuple[tuple[str, str | bytes], ...]
    ) -> AsyncIterator[None]:
        with self._tracing.server(method, metadata) as span:
            try:
                yield
            except BaseException as error:
                span.ended(code_of(context, error))
                raise
            span.ended("OK")
