"""Actions of a bounded Box as networks see them: every number in [-1, 1]."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import spaces
from common.errors import UnsupportedSpaceError

LOG_STD_BOUNDS = (-20.0, 2.0)
"""What the logarithm of a squashed Gaussian's deviation is clamped to."""

_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


def bounded_box(space: spaces.Space, name: str, *, discrete: str = "dqn, sac or ppo") -> spaces.Box:
    """The space, which must be a Box of floats with finite bounds.

    Args:
        space: Of the actions.
        name: The algorithm's.
        discrete: The algorithms that take Discrete actions.

    Raises:
        UnsupportedSpaceError: It is another one; says which algorithms take it.
    """
    start = f"{name} takes actions of a bounded Box, these are "
    match space:
        case spaces.Box() if not np.issubdtype(space.dtype, np.floating):
            raise UnsupportedSpaceError(
                f"{start}a Box of {space.dtype.name}: make it MultiDiscrete with a wrapper and "
                "take ppo"
            )
        case spaces.Box() if not space.is_bounded:
            raise UnsupportedSpaceError(
                f"{start}a Box without bounds; take ppo, or give it bounds with a wrapper"
            )
        case spaces.Box():
            return space
        case spaces.Discrete():
            raise UnsupportedSpaceError(f"{start}a Discrete; take {discrete}")
        case spaces.Dict():
            raise UnsupportedSpaceError(f"{start}a Dict; flatten it into a Box with a wrapper")
        case _:
            raise UnsupportedSpaceError(f"{start}a {type(space).__name__}; take ppo")


class ActionBounds(nn.Module):
    """The way between [-1, 1] and a Box, an affine one for each number.

    Attributes:
        width: d, numbers of an action.
    """

    centre: Tensor
    half_range: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.width = math.prod(space.shape)
        self._shape = space.shape
        # Bounds in double precision are not those in single precision; in half they are.
        self._dtype = torch.float64 if space.dtype == np.float64 else torch.float32
        self._cast = torch.float16 if space.dtype == np.float16 else None
        low, high = (np.array(b, np.float64).reshape(-1) for b in (space.low, space.high))
        numbers = {
            "centre": low + 0.5 * (high - low),
            "half_range": 0.5 * (high - low),
            "low": low,
            "high": high,
        }
        for name, values in numbers.items():
            tensor = torch.from_numpy(values).to(self._dtype)
            self.register_buffer(name, tensor, persistent=False)

    def to_space(self, unit: Tensor) -> Tensor:
        """[N, d] float32 in [-1, 1] to [N, *shape] in the dtype of the space, within its bounds."""
        action = self.centre + self.half_range * unit.to(self._dtype)
        # Rounding may carry the sum a last bit beyond a bound.
        action = torch.minimum(torch.maximum(action, self.low), self.high)
        if self._cast is not None:
            action = action.to(self._cast)
        return action.reshape(-1, *self._shape) if len(self._shape) != 1 else action

    def to_unit(self, actions: Tensor) -> Tensor:
        """[N, *shape] to [N, d] float32; 0 where a bound is no wider than a point."""
        flat = actions.reshape(-1, self.width).to(self._dtype)
        point = self.half_range == 0.0
        return ((flat - self.centre) / (self.half_range + point)).to(torch.float32)


def at_random(unit: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Actions, but a share of them uniformly random.

    Args:
        unit: [N, d], in [-1, 1].
        noise: [N, 1 + d], uniform in (0, 1); the first number decides, the others are the action.
        share: [N], the probability.
    """
    return torch.where(noise[:, :1] < share.unsqueeze(1), 2.0 * noise[:, 1:] - 1.0, unit)


class Squashed(NamedTuple):
    """A draw from a squashed Gaussian, of N rows.

    Attributes:
        action: [N, d] in (-1, 1), a = tanh(u) with u = mean + std noise.
        log_prob: [N], log density of a, in nats.
        reach: [N, d], std noise, which is du / dlog std.
        free: [N, d] bool, where log std is within its bounds.
    """

    action: Tensor
    log_prob: Tensor
    reach: Tensor
    free: Tensor


def squash(head: Tensor, noise: Tensor) -> Tensor:
    """The action [N, d] of `squashed` alone, as a graph computes it."""
    mean, log_std = head.chunk(2, 1)
    return torch.tanh(mean + torch.exp(log_std.clamp(*LOG_STD_BOUNDS)) * noise)


@torch.no_grad()
def squashed(head: Tensor, noise: Tensor) -> Squashed:
    """A draw and its log-probability.

        log p(a) = sum_i [log N(u_i; mean_i, std_i) - log(1 - tanh(u_i)^2)]

    Haarnoja et al. 2018 (https://arxiv.org/abs/1812.05905), appendix C. The logarithm of
    1 - tanh^2 is 2 (log 2 - u - softplus(-2u)), which neither overflows nor loses its digits.

    Args:
        head: [N, 2 d], mean and logarithm of the deviation before it is clamped.
        noise: [N, d], standard normal.
    """
    mean, raw = head.chunk(2, 1)
    log_std = raw.clamp(*LOG_STD_BOUNDS)
    reach = log_std.exp().mul_(noise)
    before = mean + reach
    slope = (math.log(2.0) - before - F.softplus(-2.0 * before)).mul_(2.0)
    density = noise.square().mul_(-0.5).sub_(log_std).sub_(_HALF_LOG_TAU)
    return Squashed(before.tanh_(), density.sub_(slope).sum(1), reach, log_std == raw)


@torch.no_grad()
def squashed_gradient(drawn: Squashed, of_action: Tensor, of_log_prob: Tensor) -> Tensor:
    """The gradient in the head [N, 2 d], by the way of a draw with its noise held.

    With u = mean + std noise it is d log p / du = 2 tanh(u): the Gaussian's own density does not
    change along a draw but for its deviation, d log p / dlog std = -1.

    Args:
        drawn: From `squashed`.
        of_action: [N, d], the loss's gradient in the action.
        of_log_prob: Its gradient in the log-probability; the same number for every row.
    """
    action = drawn.action
    of_u = (1.0 - action.square()).mul_(of_action).add_(action * (2.0 * of_log_prob))
    of_log_std = (of_u * drawn.reach).sub_(of_log_prob).mul_(drawn.free)
    return torch.cat((of_u, of_log_std), 1)
