"""OpenTelemetry traces of calls, where a variable `OTEL_*` asks for them; else they cost nothing.

Needs the extra `wiserl[tracing]`. Own spans, and not those of opentelemetry-instrumentation-grpc:
it is a beta, leaves the spans of calls that are called off open, and knows nothing of a run.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError
from common.logging import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

_EXPORTER = "OTEL_TRACES_EXPORTER"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORTERS = ("otlp", "console", "none")
_NAME = "wiserl"

_CLOSE_SECONDS = 2.0
"""A sampler that is told to stop has 10 s in all."""

_SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Codes that make a server's span one of an error, by OpenTelemetry's conventions."""

_log = Logger()


class Call:
    """The span of a call that goes on.

    Attributes:
        metadata: To send along, so that the other side's span belongs to the same trace.
    """

    def __init__(self, span: Span, faults: Callable[[str], bool]) -> None:
        self.metadata: dict[str, str] = {}
        self._span = span
        self._faults = faults

    def ended(self, code: str, message: str = "") -> None:
        """Notes the name of the status code that the call ended with."""
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("rpc.response.status_code", code)
        if self._faults(code):
            self._span.set_attribute("error.type", code)
            self._span.set_status(StatusCode.ERROR, message or code)


class Tracing:
    """Makes the spans of a process's calls. What a call raised is told by `Call.ended`.

    Args:
        provider: Where they go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer(_NAME)
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Sends what was not sent yet, but does not wait for long for a collector that is gone."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

    @contextlib.contextmanager
    def client(self, method: str, attributes: Mapping[str, AttributeValue]) -> Iterator[Call]:
        """The span of an attempt at a call.

        Args:
            method: As `wiserl.v1.LearnerService/PushTrajectories`.
            attributes: What else is known of it.
        """
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            method,
            kind=SpanKind.CLIENT,
            attributes=_attributes(method, attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            call = Call(span, lambda code: code != "OK")
            self._propagator.inject(call.metadata)
            yield call

    @contextlib.contextmanager
    def server(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[Call]:
        """The span of a call that came, in the trace that its metadata tell, if any do."""
        from opentelemetry.trace import SpanKind

        carrier = {str(key): value for key, value in metadata if isinstance(value, str)}
        with self._tracer.start_as_current_span(
            method,
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=_attributes(method, {}),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield Call(span, _SERVER_FAULTS.__contains__)


def _attributes(method: str, attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {"rpc.system.name": "grpc", "rpc.method": method, **attributes}


def from_environment(service: str) -> Tracing | None:
    """What the standard variables ask for; None where they ask for nothing.

    `OTEL_TRACES_EXPORTER` is otlp (which an `OTEL_EXPORTER_OTLP_ENDPOINT` alone says, too), console
    or none. The others mean what they mean everywhere: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER,
    OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_* and OTEL_EXPORTER_OTLP_*, OTEL_SDK_DISABLED.

    Args:
        service: The name of the service, where OTEL_SERVICE_NAME says no other.

    Raises:
        InvalidFieldError: An exporter or a protocol that there is not.
    """
    name = _exporter_name()
    if name == "none":
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter(name)
    except ImportError as error:
        # A cluster may give these variables to every pod: no reason to stop.
        _log.warning("tracing_lacking", reason=str(error), remedy="pip install wiserl[tracing]")
        return None
    named = "OTEL_SERVICE_NAME" in os.environ
    resource = Resource.create({} if named else {"service.name": service})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _log.info("tracing", exporter=name)
    return Tracing(provider)


def _exporter_name() -> str:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return "none"
    named = os.environ.get(_EXPORTER)
    if not named:
        return "otlp" if any(os.environ.get(each) for each in _ENDPOINTS) else "none"
    if named not in _EXPORTERS:
        raise InvalidFieldError(_EXPORTER, f"{named!r} is none of {', '.join(_EXPORTERS)}")
    return named


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    variable = next((each for each in _PROTOCOLS if os.environ.get(each)), None)
    if variable is not None and os.environ[variable] != "grpc":
        raise InvalidFieldError(
            variable,
            f"{os.environ[variable]!r} is not there; set it to grpc, and the endpoint to the "
            "collector's port for it (usually 4317)",
        )
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
