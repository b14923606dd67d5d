"""V-trace: values and advantages of a policy from trajectories of an older one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]


class VTrace(NamedTuple):
    """What policy and values learn from, [T, B] each; 0 in rows that are not valid.

    Attributes:
        targets: v_t, what values should become; nothing is to be differentiated through them.
        advantages: r_t + gamma v'_t+1 - V(s_t), not yet weighted with rho_t.
        ratios: rho_t, min(rho_bar, pi(a_t | s_t) / mu(a_t | s_t)).
    """

    targets: Floats
    advantages: Floats
    ratios: Floats


def vtrace(
    *,
    log_ratios: Floats,
    rewards: Floats,
    values: Floats,
    successors: Floats,
    terminated: Bools,
    truncated: Bools,
    valid: Bools,
    gamma: float,
    trace_lambda: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> VTrace:
    """V-trace targets and advantages.

        rho_t   = min(rho_bar, pi / mu),  c_t = lambda min(c_bar, pi / mu)
        delta_t = r_t + gamma (1 - terminated_t) V(s_t+1) - V(s_t)
        v_t     = V(s_t) + rho_t delta_t + gamma c_t (1 - ended_t) (v_t+1 - V(s_t+1))
        A_t     = delta_t + gamma lambda (1 - ended_t) (v_t+1 - V(s_t+1))

    Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, eq. 1, remarks 1 and 2, section 4.2. At
    lambda 1, A_t is the paper's r_t + gamma v_t+1 - V(s_t); below it v_t+1 is mixed with V(s_t+1)
    as lambda-returns are, so that where pi = mu and both bounds are at least 1, A_t is generalised
    advantage estimation and v_t = V(s_t) + A_t, at lambda 1 the n-step return.

    Both recursions end after a step that terminated or was truncated, before a row that is not
    valid and at the end of the fragment, where V(s_t+1) stands for what would have followed. Where
    both flags are set, terminated wins.

    Args:
        log_ratios: [T, B], log pi(a_t | s_t) - log mu(a_t | s_t): the policy to learn of against
            the one that acted.
        rewards: [T, B].
        values: [T, B], V(s_t).
        successors: [T, B], V(s_t+1), as `returns.successor_values` gives them.
        terminated: [T, B].
        truncated: [T, B].
        valid: [T, B].
        gamma: The discount.
        trace_lambda: Lambda.
        rho_clip: rho_bar: which policy the values are of, pi where it is infinite.
        c_clip: c_bar, at most rho_bar: how fast traces fade.
    """
    shape = rewards.shape
    arrays = (log_ratios, values, successors, terminated, truncated, valid)
    if shapes := {array.shape for array in arrays} - {shape}:
        raise ValueError(f"shapes differ: {sorted({shape, *shapes})}; all must be [T, B]")
    # The bound first: the ratio itself may be too large for a float.
    rho = np.where(valid, np.exp(np.minimum(log_ratios, np.log(rho_clip))), np.float32(0))
    c = np.exp(np.minimum(log_ratios, np.log(c_clip)))
    discounts = np.where(terminated, np.float32(0), np.float32(gamma))
    deltas = np.where(valid, rewards + discounts * successors - values, np.float32(0))
    decays = np.where(terminated | truncated | ~valid, 0, gamma * trace_lambda).astype(np.float32)
    weighted, fading = rho * deltas, np.where(decays > 0, decays * c, np.float32(0))
    ahead, errors = np.empty((2, *shape), np.float32)
    following = np.zeros(shape[1:], np.float32)  # v_t+1 - V(s_t+1)
    for t in reversed(range(shape[0])):
        ahead[t] = following
        following = weighted[t] + fading[t] * following
        errors[t] = following
    targets = np.where(valid, values + errors, np.float32(0))
    return VTrace(targets, deltas + decays * ahead, rho.astype(np.float32, copy=False))
