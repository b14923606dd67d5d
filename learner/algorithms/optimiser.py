"""Adam over one flat vector that holds all parameters, and target networks as flat as that."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from learner import interruption
from learner.algorithms import state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

N = TypeVar("N", bound=nn.Module)


class FlatAdam:
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980) with clipping by the global norm.

    The parameters become views of one vector and their gradients views of another, so that zeroing,
    the norm, clipping and the step are one kernel each whatever the number of layers.

    Args:
        parameters: By name, on one device and of one dtype; a tied one under one name.
        learning_rate: Until `set_learning_rate`.
        epsilon: Added to the root of the second moment.
        max_gradient_norm: Gradients of a larger norm are scaled down to it; None leaves them.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        learning_rate: float,
        epsilon: float,
        max_gradient_norm: float | None,
    ) -> None:
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self._vector = flatten(parameters.values())
        self._gradient = torch.zeros_like(self._vector)
        for parameter, gradient in zip(
            parameters.values(), self._views(self._gradient), strict=True
        ):
            parameter.grad = gradient
        self._step = torch.zeros((), device=self._vector.device)
        self._exp_avg = torch.zeros_like(self._vector)
        self._exp_avg_sq = torch.zeros_like(self._vector)
        self._learning_rate = learning_rate
        self._epsilon = epsilon
        self._max_gradient_norm = max_gradient_norm

    @property
    def vector(self) -> Tensor:
        """[P], all parameters."""
        return self._vector

    @property
    def learning_rate(self) -> float:
        """That of the last step, or of the next one since it was set."""
        return self._learning_rate

    def set_learning_rate(self, learning_rate: float) -> None:
        """For the steps from now on."""
        self._learning_rate = learning_rate

    def step(self, loss: Tensor) -> Tensor:
        """One step down the gradient of a scalar loss; returns its norm before clipping."""
        self.differentiate(loss)
        return self.descend()

    def differentiate(self, loss: Tensor) -> None:
        """Puts the gradients of a scalar loss in the place of those that were there."""
        self.accumulate([loss])

    def accumulate(self, losses: Iterable[Tensor]) -> None:
        """Those of a sum whose terms come one by one, so that their graphs are never all there."""
        self._gradient.zero_()
        for loss in losses:
            torch.autograd.backward(loss)

    @torch.no_grad()
    def descend(self) -> Tensor:
        """One step down the gradients that are there; returns their norm before clipping."""
        interruption.allow()
        norm: Tensor = torch.linalg.vector_norm(self._gradient)
        if self._max_gradient_norm is not None:
            self._gradient.mul_((self._max_gradient_norm / (norm + 1e-6)).clamp_(max=1.0))
        # The functional form does the same as torch.optim.Adam(fused=True) at a third of its fixed
        # cost, which is as much as the whole step of a small network.
        adam(
            [self._vector],
            [self._gradient],
            [self._exp_avg],
            [self._exp_avg_sq],
            [],
            [self._step],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self._learning_rate,
            weight_decay=0.0,
            eps=self._epsilon,
            maximize=False,
        )
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """The step count, and both moments under the names of the parameters."""
        return {
            "step": self._step,
            **state.prefixed("exp_avg", self._named(self._exp_avg)),
            **state.prefixed("exp_avg_sq", self._named(self._exp_avg_sq)),
        }

    def load_tensors(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        """Restores what `tensors` gave, found under `<prefix>.`.

        Raises:
            InvalidFieldError: A tensor is of another shape.
        """
        state.copy_tensors(self.tensors(), tensors, prefix)

    def _named(self, vector: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._shapes, self._views(vector), strict=True))

    def _views(self, vector: Tensor) -> list[Tensor]:
        return _views(vector, list(self._shapes.values()))


class TargetNetwork(Generic[N]):
    """A copy of a network that follows it, in one kernel, and has no gradients.

    Args:
        source: The network, all of whose parameters `optimiser` trains, and no others.
        optimiser: Where the source's parameters lie.

    Attributes:
        network: The copy.
    """

    def __init__(self, source: N, optimiser: FlatAdam) -> None:
        self.network = copy.deepcopy(source).requires_grad_(False)
        self._vector = flatten(self.network.parameters())
        self._source = optimiser.vector

    @torch.no_grad()
    def follow(self, tau: float = 1.0) -> None:
        """Goes the share `tau` of the way to the source; 1 makes it equal."""
        if tau == 1.0:
            self._vector.copy_(self._source)
        else:
            self._vector.lerp_(self._source, tau)


def flatten(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Makes parameters views of one new vector [P], which is returned."""
    parameters = list(parameters)
    vector = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    shapes = [parameter.shape for parameter in parameters]
    for parameter, view in zip(parameters, _views(vector, shapes), strict=True):
        parameter.data = view
    return vector


def _views(vector: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = torch.split(vector, [shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
