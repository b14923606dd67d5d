"""The n-step windows of a block, all of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Windows(NamedTuple):
    """Of each row t of B blocks, the window that begins there; of invalid rows, nothing.

    Attributes:
        lengths: [B, T] int64, m; 0 where the row is invalid.
        returns: [B, T] float32, sum over k < m of gamma^k r[t + k].
        discounts: [B, T] float32, gamma^m, and 0 where step t + m - 1 terminated.
    """

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
    rows = valid.shape[1]
    goes_on = ~(terminated | truncated)
    ended = np.zeros(valid.shape, np.bool_)
    lengths = np.zeros(valid.shape, np.int64)
    returns = np.zeros(valid.shape, np.float64)
    reach = valid  # [B, T - k]: windows that step t + k belongs to
    for k in range(min(n_step, rows)):
        inside = slice(0, rows - k)
        if k:
            reach = reach[:, :-1] & goes_on[:, k - 1 : -1] & valid[:, k:]
        lengths[:, inside] += reach
        returns[:, inside] += np.where(reach, gamma**k * rewards[:, k:], 0.0)
        ended[:, inside] |= reach & terminated[:, k:]
    discounts = np.where(ended, 0.0, gamma**lengths)
    return Windows(lengths, returns.astype(np.float32), discounts.astype(np.float32))
