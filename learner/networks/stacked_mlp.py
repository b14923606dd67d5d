"""MLPs of one shape side by side, one multiplication a layer for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from learner.networks.bodies import Activation, activation_layer, mlp
from learner.networks.recorded_mlp import recorded_mlp

if TYPE_CHECKING:
    from collections.abc import Sequence


class StackedMLP(nn.Module):
    """P MLPs with parameters of their own, each over rows of its own.

    Args:
        count: P.
        features: F, numbers of a row.
        hidden_sizes: Hidden layers of each.
        outputs: O.
        activation: Of the hidden layers.
        head_gain: Of the orthogonal initialisation of the last layers.

    Attributes:
        weights: [P, before, after] of each layer.
        biases: [P, 1, after] of each layer.
    """

    def __init__(
        self,
        count: int,
        features: int,
        hidden_sizes: Sequence[int],
        outputs: int,
        *,
        activation: Activation,
        head_gain: float,
    ) -> None:
        super().__init__()
        single = [
            mlp(features, hidden_sizes, outputs, activation=activation, head_gain=head_gain)
            for _ in range(count)
        ]
        linear = [[one for one in network if isinstance(one, nn.Linear)] for network in single]
        self.weights = nn.ParameterList(
            torch.stack([one.weight.detach().t() for one in layer])
            for layer in zip(*linear, strict=True)
        )
        self.biases = nn.ParameterList(
            torch.stack([one.bias.detach().unsqueeze(0) for one in layer])
            for layer in zip(*linear, strict=True)
        )
        self.activation = activation_layer(activation)

    def forward(self, rows: Tensor, which: Tensor | None = None) -> Tensor:
        """Rows to what the MLPs make of them.

        Args:
            rows: [A, N, F], or [N, F] for all alike.
            which: [A] int64, the MLP of each block of rows; None is each its own, A = P.

        Returns:
            [A, N, O].
        """
        weights, biases = list(self.weights), list(self.biases)
        if which is not None:
            weights, biases = ([each[which] for each in those] for those in (weights, biases))
        return recorded_mlp(rows.expand(len(weights[0]), -1, -1), weights, biases, self.activation)

    def frozen_behind(self, first: Tensor) -> Tensor:
        """What follows from the first layer's sums [P, N, H]: [P, N, O].

        No gradient goes into the parameters.
        """
        rows = first
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[1:]:
            rows = torch.matmul(self.activation(rows), weight.detach()) + bias.detach()
        return rows

    @torch.no_grad()
    def clip_gradients(self, norm: float | None, encoders: Sequence[nn.Module] = ()) -> Tensor:
        """Scales the gradient of each MLP down to a norm; None leaves them.

        Args:
            norm: That of one MLP's parameters together, and of its encoder's.
            encoders: What is in front of each MLP; nothing where it is empty.

        Returns:
            [P], the norms before.
        """
        gradients = [one.grad for one in self.parameters() if one.grad is not None]
        in_front = [
            [each.grad for each in one.parameters() if each.grad is not None] for one in encoders
        ]
        squares = torch.stack([gradient.square().sum((1, 2)) for gradient in gradients]).sum(0)
        for number, own in enumerate(in_front):
            for gradient in own:
                squares[number] += gradient.square().sum()
        norms = squares.sqrt()
        if norm is not None:
            scale = (norm / (norms + 1e-6)).clamp_(max=1.0)
            for gradient in gradients:
                gradient.mul_(scale[:, None, None])
            for number, own in enumerate(in_front):
                for gradient in own:
                    gradient.mul_(scale[number])
        return norms
