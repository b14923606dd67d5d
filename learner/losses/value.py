"""Value losses, one number a row, and how well values explain returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def squared_error(values: Tensor, returns: Tensor) -> Tensor:
    """(V - R)^2; [N] each."""
    return F.mse_loss(values, returns, reduction="none")


def clipped_squared_error(
    values: Tensor, returns: Tensor, old_values: Tensor, clip_range: float
) -> Tensor:
    """The larger of the squared errors of V and of V kept within the range around its old value.

    As in OpenAI Baselines' PPO (https://github.com/openai/baselines); not in the paper.

    Args:
        values: [N].
        returns: [N].
        old_values: [N], what the values were before the update.
        clip_range: In the units of the returns.

    Returns:
        [N].
    """
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return torch.maximum((values - returns).square(), (clipped - returns).square())


def huber(values: Tensor, returns: Tensor, delta: float) -> Tensor:
    """e^2 / 2 where |e| < delta, else delta (|e| - delta / 2), of e = V - R; [N] each."""
    return F.huber_loss(values, returns, reduction="none", delta=delta)


def clipped_huber(
    values: Tensor, returns: Tensor, old_values: Tensor, delta: float, clip_range: float
) -> Tensor:
    """As `clipped_squared_error`, with Huber's error; [N]."""
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return torch.maximum(huber(values, returns, delta), huber(clipped, returns, delta))


def explained_variance(values: NDArray[np.float32], returns: NDArray[np.float32]) -> float:
    """1 - Var(R - V) / Var(R): 1 is perfect, 0 as good as a constant, below 0 worse than that.

    NaN where all returns are the same; [N] each.
    """
    variance = float(np.var(returns, dtype=np.float64))
    if variance == 0.0:
        return float("nan")
    residual = np.subtract(returns, values, dtype=np.float64)
    return 1.0 - float(np.var(residual)) / variance
