"""Builds a worker's copies of an environment, in its own vectorisation where that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

from sampler.environments import multi_agent, plain, spread
from sampler.environments.modules import EnvironmentRefusedError
from sampler.environments.multi_agent import MultiAgentEnvironments, MultiAgentPlayers
from sampler.environments.plain import PlainEnvironments, PlainPlayers
from sampler.environments.vectorised import VectorisedEnvironments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from common.specs import EnvironmentSpec
    from sampler.environments.registry import Environment, Recipe
    from sampler.environments.stepping import Environments, Live, Players
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
            environment takes, have its spaces (Atari's has not) and say how it resets.

    Raises:
        EnvironmentRefusedError: It cannot be built, or not natively where `native` demands it.
        UnsupportedSpaceError: It has a space that the contract lacks.
    """
    several = None if vectorization == "plain" else spread.vectorised(recipe, copies)
    if several is not None:
        return several
    if vectorization == "native":
        return VectorisedEnvironments(recipe, copies)
    if vectorization == "auto" and recipe.has_native and copies >= FEWEST_FOR_NATIVE:
        native = _native(recipe, copies)
        if native is not None:
            return native
    environments = [recipe.plain() for _ in range(copies)]
    singles = _singles(environments)
    return MultiAgentEnvironments(environments) if singles is None else PlainEnvironments(singles)  # type: ignore[arg-type]


def _native(recipe: Recipe, copies: int) -> VectorisedEnvironments | None:
    """The environment's own vectorisation if it stands for plain copies, which evaluations take."""
    try:
        native = VectorisedEnvironments(recipe, copies)
    except (EnvironmentRefusedError, ImportError, TypeError):
        return None
    single = recipe.plain()
    alike = native.spec.groups == specification(single).groups
    single.close()
    if alike:
        return native
    native.close()
    return None


def specification(environment: Environment) -> EnvironmentSpec:
    """The spec of a copy, of one agent or several; resets it once.

    Raises:
        UnsupportedSpaceError: It has a space that the contract lacks.
    """
    if isinstance(environment, gymnasium.Env):
        return plain.specification(environment)
    return multi_agent.specification(environment)


def players(
    environments: Sequence[Environment],
    spec: EnvironmentSpec,
    live: Live,
    actions: Mapping[str, NDArray[Any]],
) -> Players:
    """Copies for an evaluation.

    Args:
        environments: All alike.
        spec: What they are.
        live: Where what is to be seen goes.
        actions: What the policy answers, by group.
    """
    singles = _singles(environments)
    if singles is None:
        return MultiAgentPlayers(environments, spec, live, actions)  # type: ignore[arg-type]
    return PlainPlayers(singles, live, actions[""])


def _singles(environments: Sequence[Environment]) -> list[gymnasium.Env[Any, Any]] | None:
    """The same, known to be of a single agent; None where they are of several."""
    singles = [one for one in environments if isinstance(one, gymnasium.Env)]
    return singles if len(singles) == len(environments) else None
