"""The n-step windows of a block, all of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Windows(NamedTuple):
    """The windows that begin at the M valid rows of B blocks, block after block.

    Attributes:
        begin: [M] int64, b T + t of the first row.
        lengths: [M] int64, m of at least 1.
        returns: [M] float32, sum over k < m of gamma^k r[t + k].
        discounts: [M] float32, gamma^m, and 0 where step t + m - 1 terminated.
    """

    begin: NDArray[np.int64]
    lengths: NDArray[np.int64]
    returns: NDArray[np.float32]
    discounts: NDArray[np.float32]


def windows(
    rewards: NDArray[np.floating],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    *,
    gamma: float,
    n_step: int,
) -> Windows:
    """Windows of at most `n_step` steps.

    A window ends after a step that terminated or was truncated, before an invalid row and at the
    end of its block. A shorter one keeps its own gamma^m, so it is as true as a long one.

    Args:
        rewards: [B, T].
        terminated: [B, T]; ends a window without a bootstrap.
        truncated: [B, T]; ends a window with one.
        valid: [B, T].
        gamma: Discount of a step.
        n_step: n, at least 1.
    """
    longest = min(n_step, valid.shape[1])
    begin = np.flatnonzero(valid)
    lengths: NDArray[np.int64] = np.ones(len(begin), np.int64)
    if longest == 1:
        returns = rewards.reshape(-1).take(begin)
    else:
        per_row = _accumulated(rewards, ~(terminated | truncated), valid, gamma, longest)
        lengths = per_row[0].reshape(-1).take(begin)
        returns = per_row[1].reshape(-1).take(begin)
    powers = (gamma ** np.arange(longest + 1)).astype(np.float32)
    discounts = powers.take(lengths)
    discounts[terminated.reshape(-1).take(begin + lengths - 1)] = 0.0
    return Windows(begin, lengths, returns.astype(np.float32, copy=False), discounts)


def _accumulated(
    rewards: NDArray[np.floating],
    goes_on: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    gamma: float,
    longest: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """[B, T] lengths and returns; nothing of use where a row is invalid."""
    rows = valid.shape[1]
    lengths = valid.astype(np.int64)
    returns = rewards.astype(np.float64)
    reach = valid  # [B, T - k]: windows that step t + k belongs to
    for k in range(1, longest):
        reach = reach[:, :-1] & goes_on[:, k - 1 : -1] & valid[:, k:]
        lengths[:, : rows - k] += reach
        returns[:, : rows - k] += reach * (gamma**k * rewards[:, k:])
    return lengths, returns
