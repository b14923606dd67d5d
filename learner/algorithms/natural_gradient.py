"""Steps of a bounded KL divergence: conjugate gradient on the Fisher matrix, and a line search.

Schulman et al. 2015, "Trust region policy optimization", https://arxiv.org/abs/1502.05477,
appendix C. Vectors are flat, [P], in the order of the parameters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from learner import interruption

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOLERANCE = 1e-5
"""Conjugate gradient ends when the residual is this small a part of the right-hand side."""


class FisherProduct:
    """v -> (F + damping I) v, where F is the Hessian of a mean KL divergence from the policy.

    At the policy's own parameters that Hessian is its Fisher information matrix. A product is one
    backward pass through the gradient, whose graph is kept.

    Args:
        divergence: The mean KL divergence, a scalar with its graph; all of what it is computed by
            must be differentiable twice.
        parameters: That it depends on; one without effect has a row of zeros.
        damping: Added to every eigenvalue.
    """

    def __init__(
        self, divergence: Tensor, parameters: Sequence[nn.Parameter], *, damping: float
    ) -> None:
        self._parameters = parameters
        self._damping = damping
        self._slope = gradient(divergence, parameters, create_graph=True)

    @torch.enable_grad()
    def __call__(self, vector: Tensor) -> Tensor:
        """[P] to [P]."""
        interruption.allow()
        along = torch.dot(self._slope, vector)
        product = gradient(along, self._parameters, retain_graph=True)
        return product.add_(vector, alpha=self._damping)


def gradient(
    scalar: Tensor,
    parameters: Sequence[nn.Parameter],
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> Tensor:
    """The gradient [P] of a scalar; 0 for parameters that it does not depend on."""
    parts = torch.autograd.grad(
        scalar,
        parameters,
        retain_graph=retain_graph,
        create_graph=create_graph,
        materialize_grads=True,
    )
    return torch.cat([part.reshape(-1) for part in parts])


@torch.no_grad()
def conjugate_gradient(
    product: Callable[[Tensor], Tensor], vector: Tensor, *, steps: int
) -> Tensor:
    """Solves H x = vector for a symmetric positive definite H, from x = 0.

    Hestenes and Stiefel 1952, as in Nocedal and Wright, "Numerical optimization", algorithm 5.2.

    Args:
        product: v -> H v.
        vector: [P].
        steps: Products at most; P are enough but for rounding.

    Returns:
        [P].
    """
    solution = torch.zeros_like(vector)
    residual, direction = vector.clone(), vector.clone()
    size = torch.dot(residual, residual)
    enough = size * TOLERANCE**2
    for _ in range(steps):
        # Written so that NaN ends it as well.
        if not size > enough:
            break
        curved = product(direction)
        length = size / torch.dot(direction, curved)
        solution += length * direction
        residual -= length * curved
        new_size = torch.dot(residual, residual)
        direction = residual + (new_size / size) * direction
        size = new_size
    return solution


def trust_region_step(
    product: Callable[[Tensor], Tensor], slope: Tensor, *, max_kl: float, steps: int
) -> Tensor | None:
    """The step that improves a linear objective most within a quadratic bound of the KL divergence.

        s = sqrt(2 max_kl / x'Hx) x,  H x = slope

    Args:
        product: v -> H v.
        slope: [P], the gradient of the objective.
        max_kl: The bound on s'Hs / 2.
        steps: Of conjugate gradient, at most.

    Returns:
        [P], or None where the objective has no slope or numbers have overflown.
    """
    solution = conjugate_gradient(product, slope, steps=steps)
    curvature = torch.dot(solution, product(solution)).item()
    if not 0.0 < curvature < math.inf:
        return None
    return solution * math.sqrt(2.0 * max_kl / curvature)


@torch.no_grad()
def line_search(
    parameters: Tensor,
    step: Tensor,
    acceptable: Callable[[], bool],
    *,
    tries: int,
    shrinkage: float,
) -> int | None:
    """Goes the longest of the ways step, shrinkage step, shrinkage^2 step, ... that is acceptable.

    Args:
        parameters: [P], which the policy's parameters are views of; changed in place, and back bit
            for bit where nothing was acceptable.
        step: [P].
        acceptable: Judges the policy as `parameters` are when it is called.
        tries: How many.
        shrinkage: In (0, 1).

    Returns:
        How often the step was shrunk, None where nothing was acceptable.
    """
    start = parameters.clone()
    for shrunk in range(tries):
        torch.add(start, step, alpha=shrinkage**shrunk, out=parameters)
        if acceptable():
            return shrunk
    parameters.copy_(start)
    return None
