"""Activations that write over what they are given, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

_relu_backward = torch.ops.aten.threshold_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class InPlace(NamedTuple):
    """The gradient goes from the gradient and the activation's result, over the first of them."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


IN_PLACE: dict[type[nn.Module], InPlace] = {
    nn.ReLU: InPlace(
        torch.relu_, lambda slope, result: _relu_backward(slope, result, 0, grad_input=slope)
    ),
    nn.Tanh: InPlace(
        torch.tanh_, lambda slope, result: _tanh_backward(slope, result, grad_input=slope)
    ),
}
"""By the kind of layer."""
