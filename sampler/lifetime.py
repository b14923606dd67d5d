"""A sampler's life: finds the run, has the environments built, registers, works, stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from common import logging
from common.errors import WiseRLError
from common.heartbeat import Heartbeat
from common.tracing import from_environment
from sampler import PROTOCOL_VERSION
from sampler.client import LearnerClient, RunChangedError, UnknownSamplerError
from sampler.exits import ExitCode, SamplerStopError
from sampler.pool import PoolConfig, PoolError
from sampler.retries import Backoff
from sampler.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.status_server import StatusServer
    from protos.wiserl.v1 import learner_pb2
    from sampler.core import SamplerCore
    from sampler.options import SamplerOptions
    from sampler.pool import Pool

    MakePool = Callable[[PoolConfig], Pool]

T = TypeVar("T")

_SETTLED_SECONDS = 10.0
"""A session that lasted so long was a good one: the next start is not held back."""

_BEAT_SECONDS = 5.0
_STANDSTILL_SECONDS = 60.0
"""An event loop that turns no more for so long will not do so again by itself."""

_logger = logging.Logger()


class Lifetime:
    """One sampler, from the first call to the farewell.

    Args:
        options: Its flags.
        make_pool: Builds the environments.
    """

    def __init__(self, options: SamplerOptions, make_pool: MakePool) -> None:
        self._options = options
        self._make_pool = make_pool
        self._sampler_id = secrets.token_hex(8)
        self._draw = random.Random()  # noqa: S311 - pauses are no secret
        self._backoff = Backoff(self._draw)
        self._built: tuple[PoolConfig, Pool, SamplerCore] | None = None
        self._session: Session | None = None
        self._signal: int | None = None
        self._began = time.monotonic()
        self._alive = Heartbeat(_STANDSTILL_SECONDS)

    async def run(self) -> int:
        """Runs until the run is over or a signal comes; answers the exit code.

        Raises:
            SamplerStopError: The sampler cannot go on.
        """
        loop = asyncio.get_running_loop()
        tracing = from_environment("wiserl-sampler")
        self._client = LearnerClient(
            self._options.learner,
            connect_timeout_seconds=self._options.connect_timeout_seconds,
            credentials=self._options.credentials(),
            draw=self._draw,
            tracing=tracing,
        )
        self._life = loop.create_task(self._live())
        beating, status = loop.create_task(self._beat()), self._told()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        record = self._client.record
        try:
            with logging.bound(
                run_id=lambda: record.run_id,
                index=lambda: record.index,
                version=lambda: record.version or None,
            ):
                await self._life
        except asyncio.CancelledError:
            if self._signal is None:
                raise
        finally:
            beating.cancel()
            if status is not None:
                status.close()
            self._close_pool()
            await self._client.close()
            if tracing is not None:
                tracing.close()
        return ExitCode.FINISHED if self._signal is None else 128 + self._signal

    def _told(self) -> StatusServer | None:
        """Health and metrics over plain HTTP, where a port for them is named."""
        if self._options.status_port is None:
            return None
        from common.status_server import StatusServer
        from sampler.record_metrics import RecordCollector

        record = self._client.record
        return StatusServer(
            self._options.status_host,
            self._options.status_port,
            not_alive=lambda: self._alive.silence("the event loop stands still"),
            not_ready=record.not_ready,
            collectors=(RecordCollector(record),),
        )

    async def _beat(self) -> None:
        while True:
            self._alive.beat()
            await asyncio.sleep(_BEAT_SECONDS)

    def _on_signal(self, number: int) -> None:
        """Drains on the first signal, leaves at once on the second."""
        if self._signal is not None:
            os._exit(128 + number)
        self._signal = number
        _logger.info("draining", signal=signal.Signals(number).name)
        if self._session is not None:
            self._session.drain()
        else:
            self._life.cancel()

    async def _live(self) -> None:
        """Serves run after run until one is over, or this sampler was told to stop.

        Each time the learner forgets who we are it begins anew, with the environments at hand.
        """
        while self._signal is None:
            run = await self._client.get_run()
            if run.protocol_version != PROTOCOL_VERSION:
                raise SamplerStopError(
                    ExitCode.REFUSED,
                    f"the learner speaks protocol version {run.protocol_version}, this sampler "
                    f"{PROTOCOL_VERSION}; install the same version of both",
                )
            try:
                await self._serve(run)
            except RunChangedError as change:
                _logger.info("run_changed", message=str(change))
            except UnknownSamplerError as forgotten:
                # A learner that was started again may have other limits: asked anew, too.
                _logger.info("registering_again", message=str(forgotten))
            else:
                return
            await self._pause()

    async def _serve(self, run: learner_pb2.GetRunResponse) -> None:
        """Registers and works until all is over.

        Raises:
            RunChangedError: The learner serves another run.
            UnknownSamplerError: The learner has forgotten this sampler.
            SamplerStopError: The sampler cannot go on.
        """
        pool, core = await self._build(run)
        response = await self._client.register(core.register_request(run))
        try:
            core.on_registered(response)
        except WiseRLError as error:
            raise SamplerStopError(ExitCode.REFUSED, str(error)) from error
        _logger.info("registered", run_id=run.run_id, index=core.index, slots=pool.slots)
        self._began = time.monotonic()
        await self._work(pool, core)

    async def _pause(self) -> None:
        """Between two starts: short after a good session, longer where they follow fast."""
        if time.monotonic() - self._began > _SETTLED_SECONDS:
            self._backoff = Backoff(self._draw)
        if self._signal is None:
            await asyncio.sleep(self._backoff.pause())

    async def _work(self, pool: Pool, core: SamplerCore) -> None:
        """A session, and the farewell after it, which frees what this sampler held at once."""
        self._session = Session(core, pool, self._client)
        try:
            await self._session.run()
        except SamplerStopError as stop:
            if stop.exit_code != ExitCode.UNREACHABLE:
                await self._leave(core)
            raise
        finally:
            self._session = None
        await self._leave(core)

    async def _leave(self, core: SamplerCore) -> None:
        await self._client.leave(core.pull_request(time.monotonic(), leaving=True))

    async def _build(self, run: learner_pb2.GetRunResponse) -> tuple[Pool, SamplerCore]:
        """The environments of a run: those at hand where they are the same."""
        options = self._options
        config = PoolConfig(
            environment=run.training_environment,
            evaluation_environment=run.evaluation_environment,
            workers=options.workers,
            envs_per_worker=options.envs_per_worker,
            vectorization=options.vectorization,
            step_timeout_seconds=options.step_timeout_seconds,
            allowed_modules=options.allow_module,
        )
        if self._built is not None and self._built[0] == config:
            return self._built[1:]
        self._close_pool()
        try:
            pool = await _in_thread(lambda: self._make_pool(config))
        except PoolError as error:
            raise SamplerStopError(ExitCode.ENVIRONMENT, str(error)) from error
        # Imports NumPy, which was not needed for finding the run.
        from sampler.core import SamplerCore

        core = SamplerCore(pool, name=options.name, sampler_id=self._sampler_id)
        self._built = config, pool, core
        return pool, core

    def _close_pool(self) -> None:
        if self._built is not None:
            self._built[1].close()
            self._built = None


async def _in_thread(work: Callable[[], T]) -> T:
    """Does what takes long beside the loop, so that signals are heard.

    Nobody waits for the thread of a call that is called off, unlike for one of asyncio's.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(outcome: T | BaseException) -> None:
        if done.done():
            return
        if isinstance(outcome, BaseException):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)

    def run() -> None:
        outcome: T | BaseException
        try:
            outcome = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            outcome = error
        # The loop is gone where the call was called off.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="builder", daemon=True).start()
    return await done
