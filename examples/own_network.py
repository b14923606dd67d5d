"""A network of your own: a function from the observation space to an `nn.Module`.

    wiserl train ppo --env CartPole-v1 --network own_network:make

The module is called with a tensor for each leaf of the observation space ([N, *shape]; floats as
float32, bytes as they are) and returns features [N, F]. Heads for actions and values, and
`--hidden-sizes` before them, are put behind it. It travels as an ONNX graph: no Dropout, no
BatchNorm, no branching on values.
"""

import torch
from torch import Tensor, nn

from common import spaces


class Residual(nn.Module):
    """A layer beside a way around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """[N, width] to [N, width]."""
        return features + torch.tanh(self.layer(features))


def make(space: spaces.Space) -> nn.Module:
    """Two residual layers behind LayerNorm, for vectors.

    Args:
        space: Of the observations; `common.spaces` has what Gymnasium has, without Gymnasium.
    """
    if not isinstance(space, spaces.Box):
        raise TypeError(f"this network takes vectors, not a {type(space).__name__}")
    (width,) = space.shape
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 64), nn.Tanh(), Residual(64), Residual(64)
    )
