"""Learner and samplers in one process and thread, for a debugger: no sockets, no children.

It drives the very state machines that the distributed form drives, with the same slots in the same
order, so that both give the same curves bit for bit.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from common.errors import WiseRLError
from common.statuses import Code
from learner.front.interface import DrainingError
from learner.front.refusals import Refusal
from sampler.core import SamplerCore
from sampler.inline_pool import InlinePool
from sampler.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from learner.front.coordinator import Coordinator
    from sampler.pool import PoolConfig

T = TypeVar("T")

_IDLE_TURNS = 100
"""So many turns without anything to do, each up to the next lease's end: nothing will come."""


class InProcessFront:
    """A front that plays the samplers itself while training waits.

    Its time stands still while there is anything to do: no lease ends because an update takes long.

    Args:
        coordinator: The learner's side.
        pool: What every sampler builds.
        samplers: How many.
    """

    def __init__(self, coordinator: Coordinator, pool: PoolConfig, *, samplers: int) -> None:
        self._coordinator = coordinator
        self._config = pool
        self._count = samplers
        self._samplers: list[_Sampler] = []
        self._now = 0.0

    def now(self) -> float:
        """See `Front.now`."""
        return self._now

    @contextlib.contextmanager
    def locked(self) -> Iterator[Coordinator]:
        """See `Front.locked`."""
        yield self._coordinator

    @property
    def draining(self) -> bool:
        """See `Front.draining`."""
        return self._coordinator.draining

    def wait(self, ready: Callable[[Coordinator], T | None]) -> T:
        """See `Front.wait`.

        Raises:
            DrainingError: The coordinator drains.
            WiseRLError: A sampler cannot go on, or nobody has anything left to do.
        """
        self._build()
        idle = 0
        while True:
            if self._coordinator.draining:
                raise DrainingError
            found = ready(self._coordinator)
            if found is not None:
                return found
            idle = 0 if self._turn() else idle + 1
            if idle:
                self._pass_time(idle)

    def close(self) -> None:
        """Ends the samplers' environments."""
        for sampler in self._samplers:
            sampler.close()
        self._samplers = []

    def _turn(self) -> bool:
        """Lets every sampler do something; False where none had anything to do."""
        try:
            return sum(sampler.turn(self._now) for sampler in self._samplers) > 0
        except Refusal:
            # The thread of signals may have drained the coordinator in the middle of a turn.
            if self._coordinator.draining:
                return True
            raise

    def _build(self) -> None:
        for number in range(len(self._samplers), self._count):
            self._samplers.append(_Sampler(self._coordinator, self._config, number))

    def _pass_time(self, idle: int) -> None:
        if idle > _IDLE_TURNS:
            raise WiseRLError("the run stands still: no sampler has work and none will come")
        due = self._coordinator.next_tick()
        if due is not None:
            self._now = max(self._now, due)
        self._coordinator.tick(self._now)


class _Sampler:
    """One sampler's side, pumped."""

    def __init__(self, coordinator: Coordinator, config: PoolConfig, number: int) -> None:
        self._coordinator = coordinator
        self._pool = InlinePool(config)
        name = f"in-process-{number}"
        self._core = SamplerCore(self._pool, name=name, sampler_id=name)
        self._registered = False

    def turn(self, now: float) -> bool:
        """Does what there is to do, at most one task of the pool; False where there was nothing.

        Raises:
            Refusal: The learner will not have this sampler.
            SamplerStopError: The sampler cannot go on.
        """
        if self._core.finished is not None:
            return False
        if not self._registered:
            return self._register(now)
        news = self._pull(now)
        events = self._pool.events()
        self._core.on_events(now, events)
        sent = self._push(now) + self._report(now)
        if self._core.failure is not None:
            raise self._core.failure
        return bool(news or events or sent)

    def close(self) -> None:
        self._pool.close()

    def _register(self, now: float) -> bool:
        request = self._core.register_request(self._coordinator.get_run())
        response = self._coordinator.register(now, request)
        if response is None:
            return False
        self._core.on_registered(response)
        self._registered = True
        return True

    def _pull(self, now: float) -> bool:
        request = self._core.pull_request(now)
        try:
            response = self._coordinator.pull(now, request, since=now)
        except Refusal as refusal:
            if refusal.code != Code.NOT_FOUND:
                raise
            self._core.on_version_gone()
            return True
        if response is None:
            return False
        self._core.on_pull(now, response)
        return True

    def _push(self, now: float) -> int:
        """Pushes what is there, until there is no room: that push is tried again next turn."""
        sent = 0
        while (request := self._core.next_push()) is not None:
            try:
                # As if it came now, however long it is held: it is never sent away.
                response = self._coordinator.push(now, request, since=now)
            except Refusal as refusal:
                self._core.on_push_answer(now, _refused(refusal))
            else:
                if response is None:
                    break
                self._core.on_push_answer(now, response)
            sent += 1
        return sent

    def _report(self, now: float) -> int:
        sent = 0
        while (request := self._core.next_report()) is not None:
            try:
                self._core.on_report_answer(now, self._coordinator.report(now, request))
            except Refusal as refusal:
                self._core.on_report_answer(now, _refused(refusal))
            sent += 1
        return sent


def _refused(refusal: Refusal) -> Refused:
    """A refusal for good; one of the session itself ends the run.

    Raises:
        Refusal: It is no answer to this request alone.
    """
    if refusal.code not in {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}:
        raise refusal
    return Refused(refusal.code, refusal.message)
