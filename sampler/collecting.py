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

    @abc.abstractmethod
    def take(self, worker: int, *, idle: bool) -> tuple[int, ...]:
        """The slots of the next task of a worker, ascending; empty where there is nothing for it.

        Args:
            worker: Its number.
            idle: It has nothing else to roll.
        """

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

    def take(self, worker: int, *, idle: bool) -> tuple[int, ...]:
        """Every slot of the worker that has a fragment left to roll."""
        del idle
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

    Tasks are kept about as large as the window allows each worker, so that a small window does not
    fray into tasks of single slots, for which the policy is called as often as for all of them.
    """

    def __init__(self, grant: grant_pb2.Grant, layout: Layout) -> None:
        super().__init__(grant, layout)
        self._window = grant.collect.window.fragments
        self._in_flight = 0
        self._turns: collections.Counter[int] = collections.Counter()

    def update(self, grant: grant_pb2.Grant) -> None:
        """The window may have grown or shrunk."""
        super().update(grant)
        self._window = grant.collect.window.fragments

    def take(self, worker: int, *, idle: bool) -> tuple[int, ...]:
        """As many slots as a worker's share of the window, those that have waited longest.

        An idle worker takes what there is room for; a busy one waits until there is room for a
        whole share.
        """
        share = min(self._layout.slots_per_worker, -(-self._window // self._layout.workers))
        room = self._window - self._in_flight
        if room <= 0 or (room < share and not idle):
            return ()
        by_turn = sorted(self._layout.slots_of(worker), key=lambda slot: (self._turns[slot], slot))
        slots = tuple(sorted(by_turn[: min(room, share)]))
        self._turns.update(slots)
        self._in_flight += len(slots)
        return slots

    def done(self, slots: Sequence[int]) -> None:
        """Room for as many others."""
        self._in_flight -= len(slots)

    def give_back(self, slots: Sequence[int]) -> None:
        """Room for as many others; nobody waits for just these."""
        self._in_flight -= len(slots)


def collect_work(grant: grant_pb2.Grant, layout: Layout) -> CollectWork | None:
    """The work of a collect grant; None for an amount that this version does not know."""
    match grant.collect.WhichOneof("amount"):
        case "finite":
            return FiniteWork(grant, layout)
        case "window":
            return WindowWork(grant, layout)
        case _:
            return None
