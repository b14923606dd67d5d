"""Policy losses, one number a row; a minibatch's loss is their mean over the rows that count."""

from __future__ import annotations

import torch
from torch import Tensor


def surrogate(ratio: Tensor, advantages: Tensor) -> Tensor:
    """What a policy would gain at the states visited, to be raised: ratio A.

    Schulman et al. 2015, https://arxiv.org/abs/1502.05477, eq. 14 with sampled actions.

    Args:
        ratio: [N], pi(a | s) / pi_behaviour(a | s).
        advantages: [N].

    Returns:
        [N].
    """
    return ratio * advantages


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """PPO's objective with the sign of a loss.

        -min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon) A)

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 7.

    Args:
        ratio: [N], pi(a | s) / pi_behaviour(a | s).
        advantages: [N].
        clip_range: epsilon.

    Returns:
        [N].
    """
    losses = -advantages
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return torch.maximum(ratio * losses, clipped * losses)


def approximate_kl(log_ratio: Tensor, ratio: Tensor) -> Tensor:
    """An estimate of KL(behaviour || policy) from the behaviour's actions: ratio - 1 - log ratio.

    Unbiased, never negative and of low variance (http://joschu.net/blog/kl-approx.html, k3).

    Args:
        log_ratio: [N].
        ratio: [N], its exponential.

    Returns:
        [N].
    """
    return (ratio - 1.0) - log_ratio


def clip_fraction(ratio: Tensor, clip_range: float) -> Tensor:
    """1 where the ratio has left the clip range, else 0; [N] float32."""
    return ((ratio - 1.0).abs() > clip_range).to(ratio.dtype)


def normalise_advantages(advantages: Tensor, weights: Tensor) -> Tensor:
    """Advantages of mean 0 and standard deviation 1 within each minibatch, over rows that count.

    Args:
        advantages: [K, N], a minibatch a row.
        weights: [K, N], 1 for rows that count and 0 for others.

    Returns:
        [K, N]; a minibatch with a single row that counts gets 0 there, and none stays without NaN.
    """
    counts = weights.sum(1, keepdim=True)
    mean = (advantages * weights).sum(1, keepdim=True) / counts.clamp(min=1.0)
    centred = advantages - mean
    variance = (centred.square() * weights).sum(1, keepdim=True) / (counts - 1.0).clamp(min=1.0)
    return centred / (variance.sqrt() + 1e-8)
