"""MLPs side by side behind one encoder, and their gradients with autograd or without it.

Actor and critics of off-policy algorithms are such. An algorithm asks for gradients at a network's
outputs and inputs rather than for those of a loss: the gradient that an actor gets goes through a
critic whose own parameters need none, and where the network is nothing but MLPs none of it has to
be recorded, which saves a quarter of a gradient step of two layers of 256 units.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from learner.networks.bodies import Activation, mlp
from learner.networks.direct_mlp import DirectMLP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.networks.observations import Encoder


class Heads(nn.Module):
    """K MLPs over the same features: twin critics, or an actor where K is 1.

    Args:
        encoder: The stage with parameters that depends on the observation space.
        outputs: O, of each MLP.
        count: K.
        beside: Numbers of the action that is laid beside the features; 0 where there is none.
        hidden_sizes: Hidden layers of each; None is 256 256, and 256 behind an encoder that learns.
        activation: Of the hidden layers.
        head_gain: Of the orthogonal initialisation of the last layers.

    Attributes:
        outputs: O.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        *,
        count: int = 1,
        beside: int = 0,
        hidden_sizes: Sequence[int] | None,
        activation: Activation,
        head_gain: float,
    ) -> None:
        super().__init__()
        if hidden_sizes is None:
            hidden_sizes = (256,) if encoder.learns else (256, 256)
        self.outputs = outputs
        self.beside = beside
        self.encoder = encoder
        self.heads = nn.ModuleList(
            mlp(
                encoder.features + beside,
                hidden_sizes,
                outputs,
                activation=activation,
                head_gain=head_gain,
            )
            for _ in range(count)
        )

    def forward(self, inputs: Sequence[Tensor], count: int | None = None) -> Tensor:
        """What a preprocessor gives, then the action where one is taken, to [N, K O].

        Args:
            inputs: `[vector, *images]`, and the action [N, beside].
            count: How many of the MLPs, from the first on, answer; None is all of them.
        """
        if self.beside:
            *parts, action = inputs
            rows = torch.cat((self.encoder(parts), action), 1)
        else:
            rows = self.encoder(inputs)
        return _side_by_side([head(rows) for head in self.heads[:count]])


class Recording(NamedTuple):
    """What gradients follow from.

    Attributes:
        tensors: By hand: what entered each layer, for each MLP; by autograd: the outputs and, where
            it can have a gradient, the last input.
    """

    tensors: list[list[Tensor]]


class Differentiable(abc.ABC):
    """A network that is evaluated with or without a recording, and differentiated from one."""

    @abc.abstractmethod
    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """The outputs [N, K O]; records nothing."""

    @abc.abstractmethod
    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Recording]:
        """The outputs [N, K O], without a graph of autograd, and what the methods below take."""

    @abc.abstractmethod
    def backward(self, recording: Recording, gradient: Tensor) -> None:
        """Puts the gradients of all parameters in the place of those that were there.

        Args:
            recording: From `forward`; each serves once.
            gradient: [N, K O], of the loss.
        """

    @abc.abstractmethod
    def gradient_of_action(self, recording: Recording, gradient: Tensor) -> Tensor:
        """The gradient in the action, [N, beside]; those of the parameters stay as they are."""


def differentiable(network: Heads, count: int | None = None) -> Differentiable:
    """The network as one that can be differentiated: by hand where it is nothing but MLPs.

    Its parameters and their gradients must stay where they are from now on.

    Args:
        network: In training, or a target.
        count: How many of its MLPs, from the first on; None is all of them.
    """
    if network.encoder.learns or not all(DirectMLP.fits(head) for head in network.heads):
        return ByAutograd(network, count)
    return ByHand(network, count)


class ByHand(Differentiable):
    """Over encoders that hand on one vector."""

    def __init__(self, network: Heads, count: int | None = None) -> None:
        heads = [head for head in network.heads[:count] if isinstance(head, nn.Sequential)]
        self._heads = [DirectMLP(head) for head in heads]
        self._outputs, self._beside = network.outputs, network.beside

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """See the base class."""
        return self.forward(inputs)[0]

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Recording]:
        """See the base class."""
        rows = _side_by_side(inputs)
        passes = [head.forward(rows) for head in self._heads]
        outputs = _side_by_side([output for output, _ in passes])
        return outputs, Recording([entered for _, entered in passes])

    def backward(self, recording: Recording, gradient: Tensor) -> None:
        """See the base class."""
        parts = torch.split(gradient, self._outputs, 1)
        for head, entered, part in zip(self._heads, recording.tensors, parts, strict=True):
            head.backward(entered, part)

    def gradient_of_action(self, recording: Recording, gradient: Tensor) -> Tensor:
        """See the base class."""
        parts = torch.split(gradient, self._outputs, 1)
        found = [
            head.gradient_of_last(entered, part, self._beside)
            for head, entered, part in zip(self._heads, recording.tensors, parts, strict=True)
        ]
        return sum(found[1:], start=found[0])


class ByAutograd(Differentiable):
    """Over any encoder."""

    def __init__(self, network: Heads, count: int | None = None) -> None:
        self._network, self._count = network, count
        self._parameters = [one for one in network.parameters() if one.requires_grad]

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """See the base class."""
        outputs: Tensor = self._network(inputs, self._count)
        return outputs

    @torch.enable_grad()
    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Recording]:
        """See the base class."""
        recorded = []
        if self._network.beside:
            *parts, action = inputs
            recorded = [action.detach().requires_grad_()]
            inputs = [*parts, *recorded]
        outputs = self._network(inputs, self._count)
        return outputs.detach(), Recording([[outputs], recorded])

    def backward(self, recording: Recording, gradient: Tensor) -> None:
        """See the base class."""
        found = torch.autograd.grad(
            recording.tensors[0], self._parameters, [gradient], allow_unused=True
        )
        for parameter, slope in zip(self._parameters, found, strict=True):
            if parameter.grad is None:
                raise ValueError("a parameter has no place for its gradient; give it to FlatAdam")
            if slope is None:
                parameter.grad.zero_()
            else:
                parameter.grad.copy_(slope)

    def gradient_of_action(self, recording: Recording, gradient: Tensor) -> Tensor:
        """See the base class."""
        outputs, recorded = recording.tensors
        return torch.autograd.grad(outputs, recorded, [gradient])[0]


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tuple(tensors), 1)
