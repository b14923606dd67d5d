"""Exploration values that differ from slot to slot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias


@dataclasses.dataclass(frozen=True)
class Ladder:
    """A value for each slot of the run: base^(1 + exponent i / (N - 1)) for slot i of N.

    Horgan et al. 2018, "Distributed prioritized experience replay"
    (https://arxiv.org/abs/1803.00933), section 4: epsilon 0.4 and exponent 7. A single slot has the
    base.

    Attributes:
        base: In (0, 1].
        exponent: At least 0.
    """

    base: float
    exponent: float = 7.0

    def values(self, first: int, count: int, total: int) -> list[float]:
        """Those of `count` slots from number `first` on, of `total` in the run."""
        share = self.exponent / max(1, total - 1)
        return [self.base ** (1.0 + share * slot) for slot in range(first, first + count)]


def falling(start: float, end: float, *, over: int, steps: int) -> float:
    """A value that goes from `start` to `end` in a line over so many steps, and stays there."""
    return start + min(1.0, steps / max(1, over)) * (end - start)


Exploration: TypeAlias = float | Sequence[float] | Ladder
"""What an exploration value may be: one for all slots, one for each of a sampler, or a ladder over
all slots of the run."""
