"""Counts calls as gRPC servers do for Prometheus: started, handled by code, how long."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from prometheus_client import Counter, Histogram

from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prometheus_client import CollectorRegistry

    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]

_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_KINDS = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}
_KNOWN = {
    f"/{service.full_name}/{method.name}": (
        _KINDS[method.client_streaming, method.server_streaming],
        service.full_name,
        method.name,
    )
    for file in (learner_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
_UNKNOWN = ("unary", "unknown", "unknown")
"""Whoever invents methods must not make up time series."""

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class RpcMetrics(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs alone
    """Stands before all other interceptors, so that what they refuse is counted, too.

    Args:
        registry: Where the metrics are read from.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter(
            "grpc_server_started", "Calls that were begun.", _LABELS, registry=registry
        )
        self._handled = Counter(
            "grpc_server_handled",
            "Calls that were ended, by status code.",
            (*_LABELS, "grpc_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "How long calls took, what they waited for included.",
            _LABELS,
            buckets=_BUCKETS,
            registry=registry,
        )

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of a call, counted."""
        handler = await continuation(handler_call_details)
        labels = _KNOWN.get(handler_call_details.method, _UNKNOWN)
        return self._counted(handler, labels) if handler else handler

    def _counted(self, handler: Handler, labels: tuple[str, str, str]) -> Handler:
        if handler.response_streaming:
            serve = handler.stream_stream or handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            counted: Any = self._stream(serve, labels)
        else:
            make, counted = (
                grpc.unary_unary_rpc_method_handler,
                self._unary(handler.unary_unary, labels),
            )
        return make(counted, handler.request_deserializer, handler.response_serializer)

    def _unary(self, handle: Any, labels: tuple[str, str, str]) -> Any:  # noqa: ANN401
        async def serve(request: object, context: Context) -> object:
            self._started.labels(*labels).inc()
            began = time.perf_counter()
            try:
                response = await handle(request, context)
            except BaseException as error:
                self._ended(labels, began, _code(context, error))
                raise
            self._ended(labels, began, "OK")
            return response

        return serve

    def _stream(self, handle: Any, labels: tuple[str, str, str]) -> Any:  # noqa: ANN401
        async def serve(request: object, context: Context) -> AsyncIterator[object]:
            self._started.labels(*labels).inc()
            began = time.perf_counter()
            try:
                async for response in handle(request, context):
                    yield response
            except BaseException as error:
                self._ended(labels, began, _code(context, error))
                raise
            self._ended(labels, began, "OK")

        return serve

    def _ended(self, labels: tuple[str, str, str], began: float, code: str) -> None:
        self._handled.labels(*labels, code).inc()
        self._seconds.labels(*labels).observe(time.perf_counter() - began)


def _code(context: Context, error: BaseException) -> str:
    """The name of the status that a call ended with."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _CODES.get(code, "UNKNOWN") if code else "UNKNOWN"
