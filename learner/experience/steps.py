"""What the blocks of a ring say about their valid steps, each over its n-step window."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.signature import ColumnKey, ColumnSpec, Role
from learner.experience.on_policy import VALID
from learner.experience.windows import windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from learner.experience.block_ring import BlockRing


class Steps(NamedTuple):
    """What is known of steps beside the columns of their rows; every array is [M].

    Attributes:
        entries: int64, where they lie among columns with one entry more than rows.
        following: int64, where the ends of their windows lie; -1 - row where that is the final
            observation of a row.
        returns: float32, of the window.
        discounts: float32, of the window.
    """

    entries: NDArray[np.int64]
    following: NDArray[np.int64]
    returns: NDArray[np.float32]
    discounts: NDArray[np.float32]


class StepReader:
    """Reads the steps of blocks.

    Args:
        specs: Of the ring's columns.
        gamma: Discount of a step.
        n_step: Steps of a window.
        clip_rewards: Take the sign of a reward, before the n-step sum.

    Raises:
        ValueError: A column that windows are made of is missing, or has an agent axis.
    """

    def __init__(
        self, specs: Sequence[ColumnSpec], *, gamma: float, n_step: int, clip_rewards: bool
    ) -> None:
        self._reward = _only(specs, Role.REWARD)
        self._terminated = _only(specs, Role.TERMINATED)
        self._truncated = _only(specs, Role.TRUNCATED)
        self._gamma = gamma
        self._n_step = n_step
        self._clip_rewards = clip_rewards

    def read(
        self, ring: BlockRing, places: slice, whole: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], Steps]:
        """The valid steps of B blocks that lie side by side, in the order of their rows.

        Args:
            ring: That holds them.
            places: Where.
            whole: [B], blocks whose steps count; None for all of them.

        Returns:
            [B] how many steps each block has, and what they are.
        """
        valid = ring.columns[VALID][places]
        if whole is not None:
            valid = valid & whole[:, None]
        rewards = ring.columns[self._reward][places]
        found = windows(
            np.sign(rewards) if self._clip_rewards else rewards,
            ring.columns[self._terminated][places],
            ring.columns[self._truncated][places],
            valid,
            gamma=self._gamma,
            n_step=self._n_step,
        )
        rows = found.begin + places.start * ring.rows
        entries = rows + rows // ring.rows
        following = entries + found.lengths
        if ring.finals:
            last = rows + found.lengths - 1
            following = np.where(ring.has_final.reshape(-1).take(last), -1 - last, following)
        return _per_block(valid, len(rows)), Steps(
            entries, following, found.returns, found.discounts
        )


def _per_block(valid: NDArray[np.bool_], total: int) -> NDArray[np.int64]:
    """[B], the valid rows of each block."""
    if total == valid.size:
        return np.full(len(valid), valid.shape[1])
    counts: NDArray[np.int64] = np.add.reduce(valid, axis=1, dtype=np.int64)
    return counts


def _only(specs: Sequence[ColumnSpec], role: Role) -> ColumnKey:
    """The one column of a role.

    Raises:
        ValueError: There is none, or several, or one with an agent axis.
    """
    found = [spec for spec in specs if spec.key.role == role]
    if len(found) != 1 or found[0].shape:
        names = ", ".join(f"{spec.key} {list(spec.shape)}" for spec in found) or "none"
        raise ValueError(
            f"columns of the role {role.name.lower()}: {names}; replay of single transitions takes "
            "one of shape [], as environments with a single agent have"
        )
    return found[0].key
