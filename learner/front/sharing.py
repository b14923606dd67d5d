"""One coordinator between the thread that serves and the thread that trains.

The serving thread runs an event loop: its calls wait on asyncio events and cost no thread. The
training thread waits on a condition. Whoever changed something wakes those that it may matter to.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from common.logging import Logger
from learner.front.interface import DrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from learner.front.coordinator import Changes, Coordinator
    from learner.front.journal import Note

T = TypeVar("T")

_log = Logger()

EVERYONE = ""
"""The name to wait under for changes that matter to everyone, and for no others."""

_PUSHES = "push "
"""Begins the names under which pushes are held; no sampler's id has a space in it."""


def pushes_of(sampler_id: str) -> str:
    """The name under which the push of a sampler is held; its pulls wait under its id."""
    return _PUSHES + sampler_id


class Waiter:
    """A call on the loop that waits for a change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.is_superseded = False

    def wake(self) -> None:
        """Has the call look again."""
        self._event.set()

    def supersede(self) -> None:
        """Has the call end, since a later one took its place."""
        self.is_superseded = True
        self._event.set()

    async def wait(self, timeout_seconds: float | None = None) -> None:
        """Returns when woken since the last return, or after the timeout."""
        loop = asyncio.get_running_loop()
        timer = None if timeout_seconds is None else loop.call_later(timeout_seconds, self.wake)
        try:
            await self._event.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._event.clear()


class SharedCoordinator:
    """A coordinator behind a lock, and those that wait for it to change."""

    def __init__(
        self, coordinator: Coordinator, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._condition = threading.Condition()
        self._milestones = coordinator.milestones
        self._waiters: dict[str, set[Waiter]] = collections.defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        """The time in seconds."""
        return self._clock()

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Names the loop that waiters live on; None when it ends."""
        with self._condition:
            self._loop = loop

    @contextlib.contextmanager
    def locked(self) -> Iterator[Coordinator]:
        """The coordinator for oneself; wakes those that the changes matter to on leaving."""
        notes: list[Note] = []
        try:
            with self._condition:
                try:
                    yield self._coordinator
                finally:
                    self._settle()
                    notes = self._coordinator.journal.take()
        finally:
            # Without the lock: a log may block.
            for note in notes:
                (_log.warning if note.is_warning else _log.info)(note.event, **note.values)

    @property
    def draining(self) -> bool:
        """See `Front.draining`."""
        return self._coordinator.draining

    def wait(self, ready: Callable[[Coordinator], T | None]) -> T:
        """Blocks the calling thread; see `Front.wait`.

        Raises:
            DrainingError: The coordinator drains.
        """
        with self._condition:
            while True:
                if self._coordinator.draining:
                    raise DrainingError
                found = ready(self._coordinator)
                self._settle()
                if found is not None:
                    return found
                self._condition.wait()

    def _settle(self) -> None:
        """Tells both threads what changed. The lock is held."""
        if self._coordinator.milestones != self._milestones:
            self._milestones = self._coordinator.milestones
            self._condition.notify_all()
        changes = self._coordinator.take_changes()
        if self._loop is None or not (changes.everyone or changes.samplers or changes.pushes):
            return
        if _running_loop() is self._loop:
            self._wake(changes)
        else:
            self._loop.call_soon_threadsafe(self._wake, changes)

    def _wake(self, changes: Changes) -> None:
        names = list(self._waiters)
        if not changes.everyone:
            held = [name for name in names if name.startswith(_PUSHES)] if changes.pushes else []
            names = [*changes.samplers, *map(pushes_of, changes.samplers), *held]
        for name in names:
            for waiter in self._waiters.get(name, ()):
                waiter.wake()

    @contextlib.contextmanager
    def waiting(self, name: str) -> Iterator[Waiter]:
        """A waiter that is woken by changes for this sampler or everyone. On the loop's thread."""
        waiter = Waiter()
        self._waiters[name].add(waiter)
        try:
            yield waiter
        finally:
            self._waiters[name].discard(waiter)
            if not self._waiters[name]:
                del self._waiters[name]

    def supersede(self, name: str) -> None:
        """Ends the calls that wait under this name. On the loop's thread only."""
        for waiter in self._waiters.get(name, ()):
            waiter.supersede()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
