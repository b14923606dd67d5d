"""The collect grants as a sampler works through them: which slots a worker rolls next.

A work hands out fragments (slots) to workers with `take`, and hears of every one of them again
exactly once: `done` (a final answer that ends it) or `give_back` (it was lost or refused).
"""

from __future__ import annotations

import abc
import collections
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protos.wiserl.v1 import grant_pb2


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which worker holds which slot: slot s lives in worker `s % workers`."""

    workers: int
    slots: int

    @property
    def slots_per_worker(self) -> int:
        """K."""
        return self.slots // self.workers

    def slots_of(self, worker: int) -> range:
        """The slots of a worker, ascending."""
        return range(worker, self.slots, self.workers)


class CollectWork(abc.ABC):
    """A collect grant.

    Attributes:
        grant_id: Its id.
        rows: T, the rows of a fragment.
        over: The grant asks for nothing more (it is not listed any more, or the budget is met).
        or_newer: Any version after the one it names does as well, and the newest is best.
    """

    def __init__(self, grant: grant_pb2.Grant, layout: Layout) -> None:
        self.grant_id = grant.grant_id
        self.rows = grant.collect.rows
        self.over = False
        self.or_newer = grant.collect.or_newer
        self._version = grant.collect.version
        self._layout = layout

    def can_use(self, version: int) -> bool:
        """Whether the policy of this version is one that the grant asks for."""
        if self.over or not version:
            return False
        return version == self._version or (self.or_newer and version > self._version)

    def update(self, grant: grant_pb2.Grant) -> None:
        """Takes over what a later listing of the same grant may change."""
        self._version = grant.collect.version
        self.or_newer = grant.collect.or_newer

    @property
    def outlives_its_grant(self) -> bool:
        """Whether what is rolled for it is still good when the grant is not listed any more."""
        return False

    @abc.abstractmethod
    def take(self, worker: int) -> tuple[int, ...]:
        """The slots of the next task of a worker, ascending; empty where there is none."""

    @abc.abstractmethod
    def done(self, slots: Sequence[int]) -> None:
        """The fragments of these slots have their final answer."""

    @abc.abstractmethod
    def give_back(self, slots: Sequence[int]) -> None:
        """The fragments of these slots came to nothing: lost with a worker, or refused."""


class FiniteWork(CollectWork):
    """So many fragments of the slots 0 to `slots` - 1, one lap over the slots after the other."""

    def __init__(self, grant: grant_pb2.Grant, layout: Layout) -> None:
        super().__init__(grant, layout)
        amount = grant.collect.finite
        slots = min(amount.slots, layout.slots)
        laps, extra = divmod(amount.fragments, slots) if slots else (0, 0)
        self._wanted = [laps + (slot < extra) for slot in range(slots)]

    def take(self, worker: int) -> tuple[int, ...]:
        """Every slot of the worker that has a fragment left to roll."""
        lap = [s for s in self._layout.slots_of(worker) if s < len(self._wanted)]
        lap = [slot for slot in lap if self._wanted[slot]]
        for slot in lap:
            self._wanted[slot] -= 1
        return tuple(lap)

    def done(self, slots: Sequence[int]) -> None:
        """Nothing is left to do: the fragments were counted when they were taken."""

    def give_back(self, slots: Sequence[int]) -> None:
        """The fragments are rolled again, under the same grant."""
        for slot in slots:
            self._wanted[slot] += 1


class WindowWork(CollectWork):
    """Endless work with a bound on the fragments in flight; the slots take turns.

    Every worker has its part of the window to itself, so that no quick one starves another. It
    works through its part in tasks of one size, the largest with which it has one task to roll
    while the one before is pushed; of a part that is no more than its slots it makes one task. A
    window smaller than the workers is theirs in turn, one fragment each.

    It never starts less than a whole task: else answers that come in pieces would make small tasks
    of large ones, and small ones never become large again. The policy takes about as long for one
    slot as for all of them.
    """

    def __init__(self, grant: grant_pb2.Grant, layout: Layout) -> None:
        super().__init__(grant, layout)
        self._window = grant.collect.window.fragments
        self._in_flight = [0] * layout.workers
        self._turns: collections.Counter[int] = collections.Counter()

    @property
    def outlives_its_grant(self) -> bool:
        """Rows of any version from one on are as good under one grant as under the next."""
        return self.or_newer

    def update(self, grant: grant_pb2.Grant) -> None:
        """The window may have grown or shrunk."""
        super().update(grant)
        self._window = grant.collect.window.fragments

    def take(self, worker: int) -> tuple[int, ...]:
        """A task's worth of slots, those that have waited longest; none where there is no room."""
        part, size = self._part(worker), self._task_size(worker)
        full = sum(self._in_flight) + size > self._window
        if full or self._in_flight[worker] + size > part:
            return ()
        by_turn = sorted(self._layout.slots_of(worker), key=lambda slot: (self._turns[slot], slot))
        slots = tuple(sorted(by_turn[:size]))
        self._turns.update(slots)
        self._in_flight[worker] += len(slots)
        return slots

    def _part(self, worker: int) -> int:
        """How many fragments a worker may have in flight."""
        each, extra = divmod(self._window, self._layout.workers)
        return max(1, each + (worker < extra))

    def _task_size(self, worker: int) -> int:
        """How many slots a task of a worker has."""
        part, slots = self._part(worker), self._layout.slots_per_worker
        return part if part <= slots else min(slots, part // 2)

    def done(self, slots: Sequence[int]) -> None:
        """Room for as many others of the same worker."""
        for slot in slots:
            self._in_flight[slot % self._layout.workers] -= 1

    def give_back(self, slots: Sequence[int]) -> None:
        """Room for as many others; nobody waits for just these."""
        self.done(slots)


def collect_work(grant: grant_pb2.Grant, layout: Layout) -> CollectWork | None:
    """The work of a collect grant; None for an amount that this version does not know."""
    match grant.collect.WhichOneof("amount"):
        case "finite":
            return FiniteWork(grant, layout)
        case "window":
            return WindowWork(grant, layout)
        case _:
            return None
