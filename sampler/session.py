"""One registration at work: pulls, pushes, reports and pool events, side by side in one event loop.

No hop is made that can be avoided: an answer to a pull hands its tasks to the pool, and an event of
the pool starts its push, within the callback that brought it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from common.logging import Logger
from sampler.client import VersionGoneError
from sampler.pool import WorkerLost

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sampler.client import LearnerClient
    from sampler.core import SamplerCore
    from sampler.pool import Pool

PUSH_DRAIN_SECONDS = 4.0
"""How long a sampler that is told to stop waits for the answer to the push in flight."""

_logger = Logger()


class Session:
    """Drives a registered `SamplerCore` until the run is over, or until it is told to drain.

    Args:
        core: The state machine; it is registered.
        pool: Its pool.
        client: Of the learner.
    """

    def __init__(self, core: SamplerCore, pool: Pool, client: LearnerClient) -> None:
        self._core = core
        self._pool = pool
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._pulling: asyncio.Task[None] | None = None
        self._pushing: asyncio.Task[None] | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._watched: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False

    async def run(self) -> None:
        """Works until a grant says FINISH or a drain is done.

        Raises:
            RunChangedError: The learner serves another run.
            UnknownSamplerError: The learner has forgotten this sampler.
            SamplerStopError: The sampler cannot go on.
        """
        self._pulling = self._start(self._pull())
        self._watch()
        try:
            await self._over
        finally:
            await self._stop()

    def drain(self) -> None:
        """Drops all work; `run` ends when the push in flight is answered, or soon without it."""
        self._draining = True
        for task in (self._pulling, self._reporting):
            if task is not None:
                task.cancel()
        self._core.drain()
        if self._pushing is None:
            self._end()
        else:
            self._loop.call_later(PUSH_DRAIN_SECONDS, self._end)

    async def _pull(self) -> None:
        while True:
            try:
                response = await self._client.pull(
                    lambda: self._core.pull_request(time.monotonic())
                )
            except VersionGoneError:
                self._core.on_version_gone()
                continue
            self._core.on_pull(time.monotonic(), response)
            self._send()
            self._watch()

    async def _push(self) -> None:
        while (request := self._core.next_push()) is not None:
            answer = await self._client.push(request)
            self._core.on_push_answer(time.monotonic(), answer)
            self._check()
            self._watch()

    async def _report(self) -> None:
        while (request := self._core.next_report()) is not None:
            answer = await self._client.report(request)
            self._core.on_report_answer(time.monotonic(), answer)
            self._check()
            self._watch()

    def _on_pool(self) -> None:
        """The pool has events, or must be looked after."""
        try:
            events = self._pool.events()
            self._core.on_events(time.monotonic(), events)
            self._send()
            if any(isinstance(event, WorkerLost) for event in events):
                # A replacement's descriptor may have the number of the one that was closed.
                self._unwatch()
            self._watch()
        except Exception as error:  # noqa: BLE001 - it ends the session, and is raised there
            self._end(error)

    def _send(self) -> None:
        """Starts what is to be sent, one push and one report at a time."""
        if self._pushing is None and self._core.next_push() is not None:
            self._pushing = self._start(self._push())
        if self._reporting is None and self._core.next_report() is not None:
            self._reporting = self._start(self._report())
        self._check()

    def _check(self) -> None:
        """Ends the session where the core says that it is over."""
        if self._core.failure is not None:
            self._end(self._core.failure)
        elif self._core.finished is not None:
            _logger.info("run_finished", reason=self._core.finished.reason)
            self._end()

    def _watch(self) -> None:
        """Watches the pool's descriptors and deadline as they are now; tasks change both."""
        now = set(self._pool.waitables())
        for descriptor in self._watched - now:
            self._loop.remove_reader(descriptor)
        for descriptor in now - self._watched:
            self._loop.add_reader(descriptor, self._on_pool)
        self._watched = now
        if self._timer is not None:
            self._timer.cancel()
        timeout = self._pool.next_timeout()
        self._timer = None if timeout is None else self._loop.call_later(timeout, self._on_pool)

    def _unwatch(self) -> None:
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
        self._watched = set()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task is self._pushing:
            self._pushing = None
        if task is self._reporting:
            self._reporting = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._end(error)
        elif self._draining and self._pushing is None:
            self._end()
        else:
            # Something may have been queued between the last look into the core and here.
            self._send()

    def _end(self, error: BaseException | None = None) -> None:
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)

    async def _stop(self) -> None:
        """Ends everything that this session started."""
        self._end()
        if self._timer is not None:
            self._timer.cancel()
        self._unwatch()
        tasks = [t for t in (self._pulling, self._pushing, self._reporting) if t is not None]
        for task in tasks:
            task.remove_done_callback(self._on_done)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
