"""What the blocks of a ring say about their valid steps, each over its n-step window."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.signature import ColumnKey, ColumnSpec, Role
from learner.experience.on_policy import VALID
from learner.experience.windows import Windows, windows

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

    Where there are several agents, a step is one of all of them. Their windows are single steps,
    and what each of them got is read when the step is drawn: `outcomes` has it.

    Args:
        specs: Of the ring's columns.
        gamma: Discount of a step.
        n_step: Steps of a window.
        clip_rewards: Take the sign of a reward, before the n-step sum.

    Attributes:
        several: Whether rewards have an agent axis.

    Raises:
        ValueError: A column that windows are made of is missing, or there are several agents and
            windows of several steps.
    """

    def __init__(
        self, specs: Sequence[ColumnSpec], *, gamma: float, n_step: int, clip_rewards: bool
    ) -> None:
        self._rewards = _of_role(specs, Role.REWARD)
        self._terminated = _of_role(specs, Role.TERMINATED)
        self._truncated = _of_role(specs, Role.TRUNCATED)
        self.several = any(spec.shape for spec in specs if spec.key in self._rewards)
        if self.several and n_step > 1:
            raise ValueError(
                f"n_step ({n_step}) is above 1, and there are several agents, which may end at "
                "different steps of a window; give 1"
            )
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
        found = self._single_steps(valid) if self.several else self._windows(ring, places, valid)
        rows = found.begin + places.start * ring.rows
        entries = rows + rows // ring.rows
        following = entries + found.lengths
        if ring.finals:
            last = rows + found.lengths - 1
            following = np.where(ring.has_final.reshape(-1).take(last), -1 - last, following)
        return _per_block(valid, len(rows)), Steps(
            entries, following, found.returns, found.discounts
        )

    def outcomes(
        self, ring: BlockRing, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns and discounts of the steps of several agents, [M, A], group after group.

        Args:
            ring: That holds them.
            rows: [M], where they lie.
        """
        rewards, terminated = (
            np.concatenate([ring.take(key, rows) for key in keys], 1)
            for keys in (self._rewards, self._terminated)
        )
        discounts = np.where(terminated, np.float32(0.0), np.float32(self._gamma))
        return np.sign(rewards) if self._clip_rewards else rewards, discounts

    def _windows(self, ring: BlockRing, places: slice, valid: NDArray[np.bool_]) -> Windows:
        rewards, terminated, truncated = (
            ring.columns[key][places] for key in self._rewards + self._terminated + self._truncated
        )
        return windows(
            np.sign(rewards) if self._clip_rewards else rewards,
            terminated,
            truncated,
            valid,
            gamma=self._gamma,
            n_step=self._n_step,
        )

    def _single_steps(self, valid: NDArray[np.bool_]) -> Windows:
        """Windows of one step, whose outcomes are each agent's and so not here."""
        begin = np.flatnonzero(valid)
        nothing = np.zeros(len(begin), np.float32)
        return Windows(begin, np.ones(len(begin), np.int64), nothing, nothing)


def _per_block(valid: NDArray[np.bool_], total: int) -> NDArray[np.int64]:
    """[B], the valid rows of each block."""
    if total == valid.size:
        return np.full(len(valid), valid.shape[1])
    counts: NDArray[np.int64] = np.add.reduce(valid, axis=1, dtype=np.int64)
    return counts


def _of_role(specs: Sequence[ColumnSpec], role: Role) -> list[ColumnKey]:
    """The columns of a role: one for a single agent, one for each group of several.

    Raises:
        ValueError: There is none, or there are several of a single agent.
    """
    found = [spec for spec in specs if spec.key.role == role]
    if not found or (len(found) > 1 and not all(spec.shape for spec in found)):
        names = ", ".join(f"{spec.key} {list(spec.shape)}" for spec in found) or "none"
        raise ValueError(
            f"columns of the role {role.name.lower()}: {names}; replay takes one of shape [] of a "
            "single agent, or one with an agent axis for each group of several"
        )
    return [spec.key for spec in found]
