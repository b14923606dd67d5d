"""A minibatch of transitions out of replay."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from common.signature import ColumnKey, Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from learner.experience.columns import Columns


@dataclasses.dataclass(frozen=True)
class Transitions:
    """M transitions, each over the m steps of its n-step window.

    A window ends after n steps, at a step that terminated or was truncated, or at its block's edge;
    m is what is left of n. Transitions of A agents are single steps of all of them, with an agent
    axis in the columns of a group; returns and discounts are in the order of the spec's agents.

    Attributes:
        rows: [M] int64, where they lie in the store.
        writes: [M] int64, what tells a row from another one that takes its place later.
        columns: `[M, ...]`, entry t of every column with rows, but the reward and the flags, which
            returns and discounts stand for.
        next_columns: `[M, ...]`, entry t + m of every column with one entry more than rows; the
            final observation where the next entry is another episode's.
        returns: [M] or [M, A] float32, sum over k < m of gamma^k r[t + k], of transformed rewards.
        discounts: [M] or [M, A] float32, gamma^m, and 0 where step t + m - 1 terminated.
        weights: [M] float32, importance weights over the largest of the minibatch; 1 where
            sampling is uniform.
    """

    rows: NDArray[Any]
    writes: NDArray[Any]
    columns: Columns
    next_columns: Columns
    returns: NDArray[Any]
    discounts: NDArray[Any]
    weights: NDArray[Any]

    def observation(self, key: str = "") -> NDArray[Any]:
        """`[M, *shape]`, what was seen; `key` is that of a leaf in a Dict space."""
        return self.columns[ColumnKey(Role.OBSERVATION, "", key)]

    def next_observation(self, key: str = "") -> NDArray[Any]:
        """`[M, *shape]`, what was seen at the end of the window."""
        return self.next_columns[ColumnKey(Role.OBSERVATION, "", key)]

    @property
    def action(self) -> NDArray[Any]:
        """`[M, *shape]`, what was done."""
        return self.columns[ColumnKey(Role.ACTION)]
