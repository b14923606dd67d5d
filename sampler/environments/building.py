"""Builds a worker's copies of an environment, in its own vectorisation where that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampler.environments.plain import PlainEnvironments
from sampler.environments.registry import EnvironmentRefusedError
from sampler.environments.vectorised import VectorisedEnvironments

if TYPE_CHECKING:
    from sampler.environments.registry import Recipe
    from sampler.environments.stepping import Environments
    from sampler.pool import Vectorization


FEWEST_FOR_NATIVE = 8
"""An environment's own vectorisation steps few copies in hardly less time than many: for CartPole
below this number one by one is the faster way."""


def build(recipe: Recipe, copies: int, vectorization: Vectorization) -> Environments:
    """The copies of a worker.

    Args:
        recipe: How to build one.
        copies: K.
        vectorization: With `auto` an environment's own vectorisation is used where there is one,
            it pays (`FEWEST_FOR_NATIVE`) and it can be: it must take the arguments that the plain
            environment takes and say how it resets.

    Raises:
        EnvironmentRefusedError: It cannot be built, or not natively where `native` demands it.
        UnsupportedSpaceError: It has a space that the contract lacks.
    """
    if vectorization == "native":
        return VectorisedEnvironments(recipe, copies)
    if vectorization == "auto" and recipe.has_native and copies >= FEWEST_FOR_NATIVE:
        try:
            return VectorisedEnvironments(recipe, copies)
        except (EnvironmentRefusedError, ImportError, TypeError):
            return PlainEnvironments(recipe, copies)
    return PlainEnvironments(recipe, copies)
