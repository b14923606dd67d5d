"""A sum tree over an array of numbers: many draws in proportion to them, and many changes, at once.

After Schaul et al. 2016, "Prioritized experience replay" (https://arxiv.org/abs/1511.05952),
appendix B.2.1. Theirs is binary; here a node has 16 children and the top level is searched in one
go, so that a tree over a million leaves is two levels deep and NumPy has enough to do on each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FAN_OUT = 16
_WIDEST_TOP = 4096
"""Sums on the top level at most; a running sum over these costs about what a level does."""

_ONES = np.ones(_FAN_OUT)
_RUNNING = np.triu(np.ones((_FAN_OUT, _FAN_OUT)))
"""`x @ _RUNNING` is the running sum of each row of x, several times as fast as `cumsum`."""

Floats = NDArray[np.float64]


class SumTree:
    """Numbers of which none is negative, and their sums over groups, groups of groups and so on.

    A sum is always made anew from what it sums up, never corrected by a difference, so that no
    error of rounding piles up.
    """

    def __init__(self, size: int) -> None:
        """All zeros.

        Args:
            size: How many numbers.
        """
        self._levels: list[Floats] = []  # each [groups, 16], the leaves first
        width = size
        while not self._levels or width > _WIDEST_TOP:
            groups = -(-width // _FAN_OUT)
            self._levels.append(np.zeros((groups, _FAN_OUT)))
            width = groups
        self._top = np.zeros(width)
        self._running: Floats | None = None
        sums = [level.reshape(-1) for level in self._levels]
        self._leaves = sums[0]
        self._pairs = list(zip(self._levels, [*sums[1:], self._top], strict=True))

    @property
    def nbytes(self) -> int:
        """What its arrays take."""
        return self._top.nbytes + sum(level.nbytes for level in self._levels)

    @property
    def total(self) -> float:
        """The sum of all numbers."""
        return float(self._running_top()[-1])

    def get(self, positions: NDArray[np.int64]) -> Floats:
        """[M], the numbers at positions."""
        return self._leaves.take(positions)

    def put(self, positions: NDArray[np.int64], values: Floats) -> None:
        """Replaces the numbers at [M] positions; where one stands there twice, its last counts."""
        self._leaves[positions] = values
        groups = positions
        for level, above in self._pairs:
            groups = groups // _FAN_OUT
            above[groups] = level.take(groups, axis=0) @ _ONES
        self._running = None

    def fill(self, positions: slice, values: Floats | float) -> None:
        """Replaces the numbers at positions side by side."""
        first, end = positions.start, positions.stop
        if first == end:
            return
        self._leaves[first:end] = values
        for level, above in self._pairs:
            first, end = first // _FAN_OUT, (end - 1) // _FAN_OUT + 1
            above[first:end] = level[first:end] @ _ONES
        self._running = None

    def find(self, targets: Floats) -> tuple[NDArray[np.int64], Floats]:
        """The leaves in which targets fall, where every leaf is as wide as its number.

        Args:
            targets: [M] in [0, total), in ascending order (in any other it takes longer).

        Returns:
            [M] positions, and the numbers there: never 0.

        Raises:
            ValueError: All numbers are 0.
        """
        running = self._running_top()
        if not running[-1] > 0.0:
            raise ValueError("the sum tree holds nothing but zeros; put a positive number first")
        nodes = np.minimum(running.searchsorted(targets, "right"), len(running) - 1)
        rest = targets - running.take(nodes) + self._top.take(nodes)
        rows = np.arange(len(targets)) * _FAN_OUT
        for level in reversed(self._levels):
            sums = level.take(nodes, axis=0)
            ends = sums @ _RUNNING
            children = (ends <= rest[:, None]).argmin(axis=1)
            at = rows + children
            values = sums.take(at)
            rest += values
            rest -= ends.take(at)
            nodes = nodes * _FAN_OUT + children
        lost = np.flatnonzero(values <= 0.0)
        if lost.size:
            nodes[lost] = self._nearest(nodes[lost])
            values = self.get(nodes)
        return nodes, values

    def _nearest(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Leaves that are not 0, for targets that rounding put on one that is: a rare event."""
        candidates = np.flatnonzero(self._leaves)
        return candidates[
            np.minimum(candidates.searchsorted(positions), len(candidates) - 1)
        ].astype(np.int64)

    def _running_top(self) -> Floats:
        if self._running is None:
            self._running = np.cumsum(self._top)
        return self._running
