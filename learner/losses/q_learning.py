"""Targets and errors of Q-learning.

`discounts` are gamma^m over the m steps of a window, and 0 where its last step terminated: a
truncated episode bootstraps, a terminated one does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def bootstrapped(returns: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """What a value should become: the rewards of a window and the value of what it led to.

        y = sum_k<m gamma^k r_t+k + discount V(s_t+m)

    Args:
        returns: [N], the discounted sum of a window's rewards.
        discounts: [N].
        next_values: [N].

    Returns:
        [N].
    """
    return torch.addcmul(returns, discounts, next_values)


def greedy_values(next_target: Tensor) -> Tensor:
    """max_a Q_target(s', a): Mnih et al. 2015, https://doi.org/10.1038/nature14236, algorithm 1.

    Args:
        next_target: [N, A], the target network's values; unavailable actions very low.

    Returns:
        [N].
    """
    return next_target.amax(1)


def double_values(next_target: Tensor, next_online: Tensor) -> Tensor:
    """Q_target(s', argmax_a Q(s', a)): one network chooses, the other one says what it is worth.

    van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461, eq. 4.

    Args:
        next_target: [N, A], the target network's values.
        next_online: [N, A], the online network's; unavailable actions very low.

    Returns:
        [N].
    """
    return taken_values(next_target, next_online.argmax(1))


def lambda_targets(
    rewards: Tensor, discounts: Tensor, next_values: Tensor, ends: Tensor, *, trace: float
) -> Tensor:
    """The lambda-returns of whole episodes, backward from their ends.

        y_t = r_t + discount_t ((1 - lambda) V(s_t+1) + lambda y_t+1)
        y_T = r_T + discount_T V(s_T+1)

    Sutton and Barto 2018, eq. 12.20; with greedy V this is Peng's Q(lambda), which does not cut at
    actions that were explored. lambda 0 is the target of one step.

    Args:
        rewards: [L, ...].
        discounts: [L, ...], gamma, and 0 where a step terminated.
        next_values: [L, ...], what the step led to is worth.
        ends: [L, ...] bool, the last step of each episode; what is behind it does not matter as
            long as it is finite.
        trace: lambda, in [0, 1].

    Returns:
        [L, ...].
    """
    one_step = torch.addcmul(rewards, discounts, next_values)
    if trace == 0.0:
        return one_step
    # y_t = base_t + carried_t y_t+1: all that is no recursion at once, for a kernel a row is dear.
    carried = (trace * discounts).masked_fill(ends, 0.0)
    base = torch.addcmul(one_step, carried, next_values, value=-1.0)
    targets = [one_step[-1]]
    for own, share in zip(
        reversed(base[:-1].unbind()), reversed(carried[:-1].unbind()), strict=True
    ):
        targets.append(torch.addcmul(own, share, targets[-1]))
    return torch.stack(targets[::-1])


def taken_values(values: Tensor, actions: Tensor) -> Tensor:
    """Q(s, a): values [N, A] and action numbers [N] int64 from 0 on to [N]."""
    return values.gather(1, actions.unsqueeze(1)).squeeze(1)


class ErrorLoss(NamedTuple):
    """A loss of values [N] and targets [N], and its slope in the values; [N] both."""

    loss: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


def _huber(values: Tensor, targets: Tensor) -> Tensor:
    return F.smooth_l1_loss(values, targets, reduction="none")


def _huber_slope(values: Tensor, targets: Tensor) -> Tensor:
    return (values - targets).clamp_(-1.0, 1.0)


def _half_squared(values: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * F.mse_loss(values, targets, reduction="none")


HUBER = ErrorLoss(_huber, _huber_slope)
"""e^2 / 2 where |e| < 1, else |e| - 1/2, of e = values - targets.

Its slope is the error clipped to +-1, which is what Mnih et al. 2015 describe.
"""

HALF_SQUARED = ErrorLoss(_half_squared, torch.sub)
"""e^2 / 2 of e = values - targets."""

LOSSES = {"huber": HUBER, "squared": HALF_SQUARED}
"""By the names that settings have for them."""
