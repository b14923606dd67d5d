"""The priorities of the steps of a replay index, and draws in proportion to their powers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from learner.experience.sum_tree import SumTree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_LEAST = 1e-6
"""Added to every priority, so that a step without any error can be drawn again."""


class Priorities:
    """Proportional prioritisation.

    Schaul et al. 2016, "Prioritized experience replay" (https://arxiv.org/abs/1511.05952), section
    3.3: step i is drawn with probability p_i^alpha / sum over k of p_k^alpha. Draws are stratified:
    one from each of M equal parts of the sum (appendix B.2.1).

    Attributes:
        highest: The highest priority so far, which a new step gets.
    """

    def __init__(self, capacity: int, exponent: float) -> None:
        self.highest = 1.0
        self._exponent = exponent
        self._tree = SumTree(capacity)

    @property
    def nbytes(self) -> int:
        """What the tree takes."""
        return self._tree.nbytes

    def enter(self, positions: Iterable[slice]) -> None:
        """New steps stand at positions."""
        power = (self.highest + _LEAST) ** self._exponent
        for each in positions:
            self._tree.fill(each, power)

    def leave(self, positions: Iterable[slice]) -> None:
        """No step stands at positions any more."""
        for each in positions:
            self._tree.fill(each, 0.0)

    def change(self, positions: NDArray[np.int64], priorities: NDArray[np.floating]) -> None:
        """Gives steps other priorities.

        Raises:
            ValueError: One is negative, infinite or not a number.
        """
        if not len(priorities):
            return
        lowest, highest = float(priorities.min()), float(priorities.max())
        if not 0.0 <= lowest <= highest < np.inf:
            raise ValueError(
                f"priorities from {lowest} to {highest}; give absolute temporal-difference errors, "
                "and look for what made the loss infinite if these are"
            )
        powers = (priorities.astype(np.float64) + _LEAST) ** self._exponent
        self._tree.put(positions, powers)
        self.highest = max(self.highest, highest)

    def draw(
        self, uniform: NDArray[np.float64], beta: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions, and importance weights over the largest among them.

        Args:
            uniform: [M] in [0, 1), where in its part of the sum each draw falls.
            beta: The weight is (N P(i))^-beta.

        Returns:
            [M] positions in ascending order, [M] weights in (0, 1].
        """
        count = len(uniform)
        targets = (np.arange(count) + uniform) * (self._tree.total / count)
        positions, powers = self._tree.find(targets)
        # N and the sum are the same for all and leave with the largest weight.
        return positions, ((powers.min() / powers) ** beta).astype(np.float32)
