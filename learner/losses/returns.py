"""Advantages and returns of trajectories, time-major, with the three kinds of an end kept apart.

`terminated`: the task is over, nothing follows. `truncated`: cut off for a reason outside the task,
the next observation still has a value. `valid` false: the row is no step of the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]


def successor_values(
    values: Floats,
    final_rows: NDArray[np.integer[Any]],
    final_slots: NDArray[np.integer[Any]],
    final_values: Floats,
) -> Floats:
    """The value of what each step led to.

    That is the value one row later; where the environment was reset at once, so that the next row
    already belongs to another episode, it is the value of the last observation instead.

    Args:
        values: [T + 1, B], of every observation.
        final_rows: [N], the rows of the steps whose last observation travelled apart.
        final_slots: [N], their positions on the axis B.
        final_values: [N], the values of those observations.

    Returns:
        [T, B].
    """
    following = values[1:].copy()
    following[final_rows, final_slots] = final_values
    return following


def generalised_advantages(
    *,
    rewards: Floats,
    values: Floats,
    successors: Floats,
    terminated: Bools,
    truncated: Bools,
    valid: Bools,
    gamma: float,
    gae_lambda: float,
) -> Floats:
    """Generalised advantage estimation.

        delta_t = r_t + gamma (1 - terminated_t) V(s_t+1) - V(s_t)
        A_t     = delta_t + gamma lambda (1 - terminated_t or truncated_t) A_t+1

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16. The recursion also ends before a
    row that is not valid, whose own advantage is 0: that row follows an end, or lies beyond the
    step budget. Where both flags are set, terminated wins.

    Args:
        rewards: [T, B].
        values: [T, B], V(s_t).
        successors: [T, B], V(s_t+1), as `successor_values` gives them.
        terminated: [T, B].
        truncated: [T, B].
        valid: [T, B].
        gamma: The discount.
        gae_lambda: 0 is one step, 1 is the whole rest of the episode.

    Returns:
        [T, B].
    """
    shape = rewards.shape
    _same_shape(shape, values, successors, terminated, truncated, valid)
    discounts = np.where(terminated, np.float32(0), np.float32(gamma))
    deltas = np.where(valid, rewards + discounts * successors - values, np.float32(0))
    decays = np.where(terminated | truncated | ~valid, 0, gamma * gae_lambda).astype(np.float32)
    advantages = np.empty(shape, np.float32)
    following = np.zeros(shape[1:], np.float32)
    for t in reversed(range(shape[0])):
        following = deltas[t] + decays[t] * following
        advantages[t] = following
    return advantages


def discounted_sums(
    rewards: Floats, ended: Bools, valid: Bools, initial: NDArray[np.float64], gamma: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The running discounted sum of rewards of each slot, forward in time.

    It starts over after an end; rows that are not valid leave it as it is.

    Args:
        rewards: [T, B].
        ended: [T, B], terminated or truncated.
        valid: [T, B].
        initial: [B], the sums before the first row.
        gamma: The discount.

    Returns:
        The sums after each row [T, B], and those to start the next fragment with [B].
    """
    _same_shape(rewards.shape, ended, valid)
    sums = np.empty(rewards.shape, np.float64)
    running = initial
    for t in range(rewards.shape[0]):
        running = np.where(valid[t], gamma * running + rewards[t], running)
        sums[t] = running
        running = np.where(valid[t] & ended[t], 0.0, running)
    return sums, running


def _same_shape(shape: tuple[int, ...], *others: NDArray[Any]) -> None:
    shapes = {shape, *(other.shape for other in others)}
    if len(shapes) > 1:
        raise ValueError(f"shapes differ: {sorted(shapes)}; all must be [T, B]")
