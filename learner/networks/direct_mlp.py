"""An MLP and its gradient without autograd, whose fixed costs are half of a small network's step.

A gradient step of a 120-84 network with 128 rows calls some seventy small kernels under autograd;
by hand it is forty, and nothing is recorded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from learner.networks.in_place import IN_PLACE


class _Layer(NamedTuple):
    """A linear layer; all tensors are views of the parameters or their gradients."""

    weight: Tensor
    transposed: Tensor
    bias: Tensor
    weight_gradient: Tensor | None
    bias_gradient: Tensor | None


class DirectMLP:
    """Linear layers with one kind of activation between them.

    It shares the parameters of the module, and their gradients where there are any: both must stay
    where they are, as those of `FlatAdam` and `TargetNetwork` do. No tensor in here requires a
    gradient, so that autograd need not be switched off, which takes as long as a small kernel.

    Args:
        network: As `learner.networks.bodies.mlp` makes it.

    Raises:
        ValueError: It is something else; see `fits`.
    """

    def __init__(self, network: nn.Sequential) -> None:
        if not self.fits(network):
            raise ValueError(f"{network} is no MLP of ReLU or tanh; call it as a module")
        self._layers = [_layer_of(layer) for layer in network if isinstance(layer, nn.Linear)]
        kinds = [type(layer) for layer in list(network)[1::2]]
        self._activation = IN_PLACE[kinds[0]] if kinds else None

    @staticmethod
    def fits(network: nn.Module) -> bool:
        """Whether a module is linear layers with biases, with ReLU or with tanh between them."""
        if not isinstance(network, nn.Sequential) or len(network) % 2 == 0:
            return False
        linear = all(type(one) is nn.Linear and one.bias is not None for one in list(network)[::2])
        kinds = {type(one) for one in list(network)[1::2]}
        return linear and len(kinds) <= 1 and kinds <= IN_PLACE.keys()

    def __call__(self, rows: Tensor) -> Tensor:
        """[N, features] to [N, outputs]; records nothing."""
        return self.forward(rows)[0]

    def forward(self, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[N, features] to [N, outputs], and what `backward` takes."""
        entered = []
        last = len(self._layers) - 1
        for number, layer in enumerate(self._layers):
            entered.append(rows)
            rows = torch.addmm(layer.bias, rows, layer.transposed)
            if number < last and self._activation is not None:
                self._activation.forward(rows)
        return rows, entered

    def backward(self, entered: list[Tensor], gradient: Tensor) -> None:
        """Puts the gradients of all parameters in the place of those that were there.

        Args:
            entered: What entered each layer, from `forward`.
            gradient: [N, outputs], of the loss.
        """
        for number in reversed(range(len(self._layers))):
            layer = self._layers[number]
            place = layer.weight_gradient
            if place is not None and place.shape[0] > place.shape[1]:
                # MKL takes two to five times as long for a product of few columns as for its
                # transpose, of few rows.
                place.copy_(entered[number].t().mm(gradient).t())
            else:
                torch.mm(gradient.t(), entered[number], out=place)
            torch.sum(gradient, 0, out=layer.bias_gradient)
            if number and self._activation is not None:
                gradient = self._activation.backward(gradient.mm(layer.weight), entered[number])

    def gradient_of_last(self, entered: list[Tensor], gradient: Tensor, width: int) -> Tensor:
        """The gradient in the last `width` features; those of the parameters stay as they are.

        Args:
            entered: What entered each layer, from `forward`.
            gradient: [N, outputs], of the loss.
            width: Of the features that are asked for.

        Returns:
            [N, width].
        """
        for number in range(len(self._layers) - 1, 0, -1):
            gradient = gradient.mm(self._layers[number].weight)
            if self._activation is not None:
                gradient = self._activation.backward(gradient, entered[number])
        return gradient.mm(self._layers[0].weight[:, -width:])


def _layer_of(layer: nn.Linear) -> _Layer:
    weight = layer.weight.detach()
    return _Layer(weight, weight.t(), layer.bias.detach(), layer.weight.grad, layer.bias.grad)
