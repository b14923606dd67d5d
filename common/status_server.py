"""What a process tells of itself over plain HTTP: whether it lives, is ready, and its metrics.

    GET /livez    200 while its event loop turns, else 503: start it again
    GET /readyz   200 while it does its work, else 503 with the reason: wait
    GET /metrics  for Prometheus

Nothing of a run is to be read or changed here, so that the port needs neither TLS nor a token: the
probes of container engines speak neither.
"""

from __future__ import annotations

import http.server
import sys
import threading
from typing import TYPE_CHECKING

import prometheus_client

from common.errors import WiseRLError
from common.logging import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client.registry import Collector

_log = Logger()


class StatusPortError(WiseRLError):
    """The port of the status server cannot be listened on."""


class StatusServer:
    """Serves the three pages, each request in a thread of its own.

    Args:
        host: Address to listen on.
        port: 0 for any free one.
        not_alive: Why the process should be started again; empty where it should not.
        not_ready: Why it does not do its work at the moment; empty where it does.
        collectors: Of the metrics beside those of the process.

    Attributes:
        port: The real one.

    Raises:
        StatusPortError: The port cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        not_alive: Callable[[], str],
        not_ready: Callable[[], str],
        collectors: Sequence[Collector],
    ) -> None:
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        for collector in collectors:
            registry.register(collector)
        metrics = _metrics_page(registry)
        pages = {"/livez": _health(not_alive), "/readyz": _health(not_ready), "/metrics": metrics}
        try:
            self._server = _Server((host, port), _handler(pages))
        except (OSError, OverflowError) as error:
            raise StatusPortError(
                f"cannot listen on status port {host}:{port}: {error}; give another --status-port"
            ) from None
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="status", daemon=True
        )
        self._thread.start()
        _log.info("status_served", host=host, port=self.port)

    def close(self) -> None:
        """Ends it; safe to repeat."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


_Page = tuple[int, str, bytes]

_TEXT = "text/plain; charset=utf-8"


def _health(fault: Callable[[], str]) -> Callable[[], _Page]:
    def page() -> _Page:
        said = fault()
        return (503 if said else 200), _TEXT, f"{said or 'ok'}\n".encode()

    return page


def _metrics_page(registry: prometheus_client.CollectorRegistry) -> Callable[[], _Page]:
    from prometheus_client import exposition

    def page() -> _Page:
        return 200, exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(registry)

    return page


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Restarted, it has its port back at once; two processes still cannot share one.
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """A probe that hung up, out of patience, is no news; a defect is, in the log's own form."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("status_defect")


def _handler(
    pages: dict[str, Callable[[], _Page]],
) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10  # of a peer that says nothing

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404, "see /livez, /readyz and /metrics")
                return
            code, kind, body = page()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Probes come every few seconds; nobody wants to read of them."""

    return Handler
