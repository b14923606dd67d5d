"""What follows from the ends of episodes in a segment: valid rows, first rows, returns and lengths.

The rolling loop only notes rewards and ends; everything else is worked out here for all rows at
once, which costs a hundredth of doing it in every row.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    BoolArray = NDArray[np.bool_]


def marks(
    done: BoolArray, starting: BoolArray, pending: BoolArray, *, late: bool
) -> tuple[BoolArray, BoolArray]:
    """Which rows are steps, and which begin an episode.

    Args:
        done: `[T, B]`, the rows that ended an episode.
        starting: `[B]`, whether row 0 begins an episode.
        pending: `[B]`, whether row 0 is lost to a reset.
        late: Whether the row after an end is lost to the reset, else it begins the next episode.

    Returns:
        `valid` and `is_first`, `[T, B]`.
    """
    is_first = np.empty_like(done)
    is_first[0] = starting
    if not late:
        is_first[1:] = done[:-1]
        return np.ones_like(done), is_first
    valid = np.empty_like(done)
    np.logical_not(pending, out=valid[0])
    np.logical_not(done[:-1], out=valid[1:])
    np.logical_not(valid[:-1], out=is_first[1:])
    return valid, is_first


@dataclasses.dataclass(frozen=True)
class Finished:
    """Episodes that ended in a segment, ordered by position, then row; all arrays `[N]`.

    With several agents `totals` are `[N, A]`, one for each of them.
    """

    positions: NDArray[np.intp]
    rows: NDArray[np.intp]
    totals: NDArray[np.float64]
    lengths: NDArray[np.int64]


class Tally:
    """Returns and lengths of the open episodes of K slots, in double precision.

    Args:
        slots: K.
        agents: A, whose returns are kept apart; None for a single agent.
    """

    def __init__(self, slots: int, agents: int | None = None) -> None:
        self._totals = np.zeros(slots if agents is None else (slots, agents), np.float64)
        self._lengths = np.zeros(slots, np.int64)

    def add(
        self,
        chosen: NDArray[np.intp],
        rewards: NDArray[np.float64],
        valid: BoolArray,
        done: BoolArray,
    ) -> Finished:
        """Counts a segment of the `chosen` slots.

        Args:
            chosen: `[B]`, which slots the columns are.
            rewards: `[T, B]`, or `[T, B, A]`, zero in rows that are no steps.
            valid: `[T, B]`.
            done: `[T, B]`.

        Returns:
            The episodes that ended.
        """
        rows, slots = done.shape
        positions, ends = np.nonzero(done.T)
        first = np.arange(slots) * rows
        following = (positions * rows + ends + 1)[ends + 1 < rows]
        # A block runs from one boundary to the next: an episode, or the part of it in this segment.
        boundaries = np.sort(np.concatenate([first, following]))
        first_block = np.searchsorted(boundaries, first)
        last_block = np.append(first_block[1:], len(boundaries)) - 1
        closed = np.searchsorted(boundaries, positions * rows + ends, side="right") - 1
        finished = []
        for open_sums, values in (
            (self._totals, rewards),
            (self._lengths, valid.astype(np.int64)),
        ):
            by_slot = np.ascontiguousarray(values.swapaxes(0, 1))
            sums: NDArray[Any] = np.add.reduceat(
                by_slot.reshape(slots * rows, *values.shape[2:]), boundaries
            )
            sums[first_block] += open_sums[chosen]
            finished.append(sums[closed])
            sums[last_block[done[-1]]] = 0
            open_sums[chosen] = sums[last_block]
        return Finished(positions, ends, finished[0], finished[1])
