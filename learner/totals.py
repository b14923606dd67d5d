"""What outlives the learner's process: counters that are committed before a push is acknowledged.

A checkpoint is minutes old when a process is killed; these are not. They say how much of the budget
is spent, which pushes were acknowledged, which versions may have been seen by anybody, what was
lost, and which blocks of a replay ring in files are whole.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from learner.ledger import Loss, LossReason


@dataclasses.dataclass(frozen=True)
class RingCursor:
    """Which blocks of a replay ring are whole.

    Blocks are written in the order of their numbers; block number i lies at place i modulo the
    number of places. Those from `written - resident` up to `written` are whole.

    Attributes:
        written: Blocks ever written.
        resident: How many of them are still there.
    """

    written: int = 0
    resident: int = 0


@dataclasses.dataclass
class SamplerTotals:
    """What is known of one sampler.

    Attributes:
        sequence: The last one that got a final answer.
        rows: Rows accepted from it, invalid ones included.
    """

    sequence: int = 0
    rows: int = 0


@dataclasses.dataclass
class Totals:
    """The counters of a run over all of its learner processes. None of them ever falls.

    Attributes:
        restarts: How many learner processes served the run before this one.
        reserved_version: No version above this one was ever shown to anybody.
        environment_steps: Valid steps that count towards the budget.
        rows: Rows accepted from all samplers, invalid ones included.
        samplers: By sampler id: those that are there, and those that left not long ago.
        losses: The ledger.
        ring: See `RingCursor`; zero where replay does not live in files.
    """

    restarts: int = 0
    reserved_version: int = 0
    environment_steps: int = 0
    rows: int = 0
    samplers: dict[str, SamplerTotals] = dataclasses.field(default_factory=dict)
    losses: dict[LossReason, Loss] = dataclasses.field(default_factory=dict)
    ring: RingCursor = RingCursor()


class Header(abc.ABC):
    """Keeps totals.

    Attributes:
        totals: Change them, then commit.
    """

    totals: Totals

    @abc.abstractmethod
    def commit(self) -> None:
        """Makes the totals as they are now what a later process finds, all of them or none.

        For whoever may change them, under the same lock.
        """

    @abc.abstractmethod
    def reserve_version(self, version: int) -> None:
        """Returns when no later process can use this version or an earlier one.

        Versions are reserved many at a time, and synced to the disk before the first use of one.
        Any thread may ask; nothing else is committed.

        Raises:
            OSError: The disk does not take it.
        """


class MemoryHeader(Header):
    """Totals that end with the process: of a test, or of a run without a folder."""

    def __init__(self, totals: Totals | None = None) -> None:
        self.totals = totals or Totals()

    def commit(self) -> None:
        """Nothing to do."""

    def reserve_version(self, version: int) -> None:
        """See the base class."""
        self.totals.reserved_version = max(self.totals.reserved_version, version)
