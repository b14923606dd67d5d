"""Fully connected bodies and orthogonal initialisation."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Literal, TypeVar

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

Activation = Literal["tanh", "relu"]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

HIDDEN_GAIN = math.sqrt(2.0)
"""Gain of the orthogonal initialisation of every layer that is no head."""


def activation_layer(name: Activation) -> nn.Module:
    """The layer of an activation's name."""
    return nn.Tanh() if name == "tanh" else nn.ReLU()


def orthogonal(layer: Layer, gain: float = HIDDEN_GAIN) -> Layer:
    """Initialises a layer in place: orthogonal weights (Saxe et al. 2014), zero biases."""
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(
    features: int,
    hidden_sizes: Sequence[int],
    outputs: int,
    *,
    activation: Activation,
    head_gain: float,
) -> nn.Sequential:
    """[N, features] -> [N, outputs]: hidden layers and a linear head with a gain of its own."""
    sizes = (features, *hidden_sizes)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [orthogonal(nn.Linear(before, after)), activation_layer(activation)]
    return nn.Sequential(*layers, orthogonal(nn.Linear(sizes[-1], outputs), head_gain))
