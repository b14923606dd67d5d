"""Counts calls as gRPC servers do for Prometheus: started, handled by code, how long."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2
from prometheus_client import Counter, Histogram

from learner.front.interception import Interceptor, code_of, within
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc
    from prometheus_client import CollectorRegistry

    from learner.front.interception import Context, Handler

_Labels = tuple[str, str, str]

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


class RpcMetrics(Interceptor):
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

    def handler_of(self, call: grpc.HandlerCallDetails, handler: Handler | None) -> Handler | None:
        """The handler of a call, counted."""
        if handler is None:
            return None
        labels = _KNOWN.get(call.method, _UNKNOWN)
        return within(handler, lambda context: self._counted(context, labels))

    @contextlib.asynccontextmanager
    async def _counted(self, context: Context, labels: _Labels) -> AsyncIterator[None]:
        self._started.labels(*labels).inc()
        began = time.perf_counter()
        try:
            yield
        except BaseException as error:
            self._ended(labels, began, code_of(context, error))
            raise
        self._ended(labels, began, "OK")

    def _ended(self, labels: _Labels, began: float, code: str) -> None:
        self._handled.labels(*labels, code).inc()
        self._seconds.labels(*labels).observe(time.perf_counter() - began)
