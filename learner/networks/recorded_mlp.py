"""MLPs side by side as one node of autograd's graph.

Layer by layer autograd adds biases and applies activations into new memory, and takes the gradient
of every weight with its factors in one and the same order, in which MKL needs up to eight times as
long for a layer of few inputs or outputs. With many rows that is a fifth of a gradient step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learner.networks.in_place import IN_PLACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


def recorded_mlp(
    rows: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: nn.Module
) -> Tensor:
    """P stacks of linear layers with an activation between them.

    Args:
        rows: [P, N, F].
        weights: [P, before, after] of each layer.
        biases: [P, 1, after] of each layer.
        activation: A ReLU or a tanh.

    Returns:
        [P, N, O]; may be differentiated once.
    """
    if torch.compiler.is_compiling():  # such as for an export
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            rows = torch.matmul(activation(rows) if number else rows, weight) + bias
        return rows
    found: Tensor = _RecordedMLP.apply(  # type: ignore[no-untyped-call]
        activation, rows, *weights, *biases
    )
    return found


class _RecordedMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - has whatever is set
        activation: nn.Module,
        rows: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        """See `recorded_mlp`; the parameters are all weights, then all biases."""
        depth = len(parameters) // 2
        weights, entered = parameters[:depth], []
        for number, (weight, bias) in enumerate(zip(weights, parameters[depth:], strict=True)):
            if number:
                IN_PLACE[type(activation)].forward(rows)
            entered.append(rows)
            # Few columns want their numbers in the order of the transposed weight.
            narrows = weight.shape[1] > weight.shape[2]
            rows = torch.baddbmm(bias, rows, weight.mT.contiguous().mT if narrows else weight)
        ctx.save_for_backward(*entered, *weights)
        ctx.activation = activation
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """The gradient in the outputs to those in rows, weights and biases."""
        depth = len(ctx.saved_tensors) // 2
        of_weights, of_biases = [], []
        for number in reversed(range(depth)):
            rows, weight = ctx.saved_tensors[number], ctx.saved_tensors[depth + number]
            if weight.shape[1] > weight.shape[2]:
                of_weights.append(torch.bmm(slopes.mT, rows).mT)
            else:
                of_weights.append(torch.bmm(rows.mT, slopes))
            of_biases.append(slopes.sum(1, keepdim=True))
            if number:
                slopes = torch.bmm(slopes, weight.mT)
                IN_PLACE[type(ctx.activation)].backward(slopes, rows)
        of_rows = torch.bmm(slopes, weight.mT) if ctx.needs_input_grad[1] else None
        return None, of_rows, *reversed(of_weights), *reversed(of_biases)
