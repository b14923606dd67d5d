"""The valid steps of a replay ring in the order of their insertion, to draw from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from learner.experience.steps import Steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RECORD = np.dtype(
    [("entry", np.int32), ("next", np.int32), ("returns", np.float32), ("discount", np.float32)]
)


class StepIndex:
    """A ring of records of 16 bytes: one read from memory tells all that a step's window needs.

    Steps are numbered from 0 in the order of their insertion; number i lies at position i modulo
    the capacity. Those from `first` up to `end` are there, so that any of them is drawn in one go,
    without a look at whether it is valid.

    Attributes:
        capacity: How many steps there is room for.
        first: The oldest step that is there.
        end: The number of the next one.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.first = 0
        self.end = 0
        self._records = np.zeros(capacity, _RECORD)

    def __len__(self) -> int:
        """The steps that are there."""
        return self.end - self.first

    @property
    def nbytes(self) -> int:
        """What the records take."""
        return self._records.nbytes

    def append(self, steps: Steps) -> list[slice]:
        """Adds steps; never more than there is room for.

        Returns:
            The positions that they took: one slice, or two at the ring's seam.
        """
        taken = self._positions(self.end, len(steps.entries))
        done = 0
        for positions in taken:
            records = self._records[positions]
            part = slice(done, done + len(records))
            records["entry"] = steps.entries[part]
            records["next"] = steps.following[part]
            records["returns"] = steps.returns[part]
            records["discount"] = steps.discounts[part]
            done = part.stop
        self.end += done
        return taken

    def drop(self, count: int) -> list[slice]:
        """Forgets the oldest steps; returns the positions that they had."""
        freed = self._positions(self.first, count)
        self.first += count
        return freed

    def numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the steps that are at positions now."""
        return self.first + (positions - self.first) % self.capacity

    def take(self, positions: NDArray[np.int64]) -> Steps:
        """The steps at positions."""
        records = self._records.take(positions)
        return Steps(
            records["entry"].astype(np.int64),
            records["next"].astype(np.int64),
            records["returns"].copy(),
            records["discount"].copy(),
        )

    def _positions(self, number: int, count: int) -> list[slice]:
        start = number % self.capacity
        stop = start + count
        if stop <= self.capacity:
            return [slice(start, stop)]
        return [slice(start, self.capacity), slice(0, stop - self.capacity)]
