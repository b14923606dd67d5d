"""The server: the service on an address, in a thread and loop of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health  # type: ignore[attr-defined] # lags behind

from common.allocator import keep_large_buffers
from common.heartbeat import Heartbeat
from common.logging import Logger
from learner.front.authentication import Authentication
from learner.front.parsing import Parsing
from learner.front.security import AddressError, ServerSecurity
from learner.front.service import LearnerService
from learner.front.sharing import EVERYONE, SharedCoordinator
from learner.front.tokens import Tokens
from protos.wiserl.v1 import learner_pb2, learner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from common.status_options import StatusOptions
    from common.status_server import StatusServer
    from common.tracing import Tracing
    from learner.front.coordinator import Coordinator

T = TypeVar("T")

SERVICE_NAME = learner_pb2.DESCRIPTOR.services_by_name["LearnerService"].full_name

MAX_CALLS = 2048
"""At once; each waiting call costs a few KiB."""

STOP_GRACE_SECONDS = 2.0
"""How long calls in flight may still get their answer when the server stops."""

OVERSLEPT_SECONDS = 1.0
CATCH_UP_SECONDS = 0.5
"""After the process was suspended, calls that queued up meanwhile renew leases before any ends."""

STANDSTILL_SECONDS = 60.0
"""An event loop that turns no more for so long will not do so again by itself; it turns at least
once a lease."""

_log = Logger()


def server_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """The channel arguments that bound what any peer can make the server hold."""
    return [
        # By default two learners could share a port, and the kernel would deal samplers to both.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_concurrent_streams", 16),
        ("grpc.max_allowed_incoming_connections", 512),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 300_000),
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 60_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients ping every 60 s; one that pings much more often is sent away.
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.absolute_max_metadata_size", 16 << 10),
    ]


class FrontServer:
    """Serves a coordinator. Implements `Front` for the training thread.

    Attributes:
        address: Where it listens, with the real port once started.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        address: str = "127.0.0.1:0",
        security: ServerSecurity | None = None,
        status: StatusOptions | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Prepares to serve on an address; nothing listens yet.

        Raises:
            AddressError: The address is neither on loopback nor protected enough.
            WiseRLError: A certificate, key or token that cannot be used.
        """
        security = security or ServerSecurity()
        security.check_address(address)
        self.address = address
        self._credentials = security.credentials()
        self._interceptors: list[grpc.aio.ServerInterceptor[Any, Any]] = [Parsing()]
        if tracing is not None:
            from learner.front.call_tracing import CallTracing

            self._interceptors.insert(0, CallTracing(tracing))
        if security.tokens_file:
            self._interceptors.insert(0, Authentication(Tokens(security.tokens_file)))
        self._alive = Heartbeat(STANDSTILL_SECONDS)
        self._status: StatusServer | None = None
        self._limits = coordinator.settings.limits
        self._shared = SharedCoordinator(coordinator)
        self._started: concurrent.futures.Future[str] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name="learner-front", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        if status is not None and status.status_port is not None:
            self._status = self._told_at(status.status_host, status.status_port)

    def _told_at(self, host: str, port: int) -> StatusServer:
        """Health and metrics over plain HTTP; calls are counted from here on."""
        from prometheus_client import CollectorRegistry

        from common.status_server import StatusServer
        from learner.front.rpc_metrics import RpcMetrics
        from learner.front.run_metrics import RunCollector

        calls = CollectorRegistry()
        self._interceptors.insert(0, RpcMetrics(calls))
        return StatusServer(
            host,
            port,
            not_alive=lambda: self._alive.silence("the event loop stands still"),
            not_ready=self._not_ready,
            collectors=(calls, RunCollector(self._shared)),
        )

    @property
    def status_port(self) -> int | None:
        """Where health and metrics are told; None for nowhere."""
        return None if self._status is None else self._status.port

    def _not_ready(self) -> str:
        if not self._started.done():
            return "not listening yet"
        with self.locked() as coordinator:
            return "draining: the learner was told to stop" if coordinator.draining else ""

    def start(self) -> None:
        """Listens and serves, in a thread of its own.

        Raises:
            AddressError: The address cannot be listened on.
        """
        keep_large_buffers()
        self._thread.start()
        self.address = self._started.result()
        _log.info("learner_listening", address=self.address)

    def stop(self) -> None:
        """Drains, gives calls in flight a moment, and ends the thread. Safe to repeat."""
        if not self._thread.is_alive():
            return
        with self.locked() as coordinator:
            coordinator.drain()
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        if self._status is not None:
            self._status.close()

    def now(self) -> float:
        """See `Front.now`."""
        return self._shared.now()

    def locked(self) -> AbstractContextManager[Coordinator]:
        """See `Front.locked`."""
        return self._shared.locked()

    @property
    def draining(self) -> bool:
        """See `Front.draining`."""
        return self._shared.draining

    def wait(self, ready: Callable[[Coordinator], T | None]) -> T:
        """See `Front.wait`.

        Raises:
            DrainingError: The coordinator drains.
        """
        return self._shared.wait(ready)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if not self._started.done():
                self._started.set_exception(error)
                return
            _log.exception("front_defect")
            raise

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server, servicer = self._build()
        port = self._bind(server)
        await server.start()
        self._shared.attach(self._loop)
        keeper = asyncio.create_task(self._keep_house(servicer))
        self._started.set_result(self._with_port(port))
        try:
            await self._stopping.wait()
            await servicer.enter_graceful_shutdown()
            await server.stop(STOP_GRACE_SECONDS)
        finally:
            self._shared.attach(None)
            keeper.cancel()

    def _build(self) -> tuple[grpc.aio.Server, health.HealthServicer]:
        server = grpc.aio.server(
            options=server_options(self._limits.max_message_bytes),
            maximum_concurrent_rpcs=MAX_CALLS,
            interceptors=self._interceptors,
        )
        learner_pb2_grpc.add_LearnerServiceServicer_to_server(
            LearnerService(self._shared, self._limits), server
        )
        servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        return server, servicer

    def _bind(self, server: grpc.aio.Server) -> int:
        try:
            if self._credentials is None:
                return server.add_insecure_port(self.address)
            return server.add_secure_port(self.address, self._credentials)
        except RuntimeError as error:
            raise AddressError(
                f"cannot listen on {self.address!r}; is the port taken? Port 0 takes a free one"
            ) from error

    def _with_port(self, port: int) -> str:
        return f"{self.address.rpartition(':')[0]}:{port}"

    async def _keep_house(self, servicer: health.HealthServicer) -> None:
        """Ends leases in time, and says in the health service whether the learner serves."""
        await servicer.set(SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        # A lease that begins while this waits ends later than what it waits for.
        due = self.now() + self._limits.lease_seconds
        with self._shared.waiting(EVERYONE) as waiter:
            while not await self._look(due):
                self._alive.beat()
                if self.now() >= due:
                    due = self._tick()
                await waiter.wait(max(0.0, due - self.now()))
        await servicer.enter_graceful_shutdown()

    async def _look(self, due: float) -> bool:
        """Whether the coordinator drains. After a standstill calls that queued up come first."""
        if self.now() > due + OVERSLEPT_SECONDS:
            await asyncio.sleep(CATCH_UP_SECONDS)
        with self._shared.locked() as coordinator:
            return coordinator.draining

    def _tick(self) -> float:
        """Ends leases that ran out; answers when to look again."""
        now = self.now()
        with self._shared.locked() as coordinator:
            coordinator.tick(now)
            due = coordinator.next_tick()
        return now + self._limits.lease_seconds if due is None else due
