"""Algorithms by name."""

from __future__ import annotations

from typing import Any, TypeAlias

from common.errors import InvalidFieldError
from learner import references
from learner.algorithms.base import Algorithm

AlgorithmClass: TypeAlias = type[Algorithm[Any]]

BUILT_IN = {
    "ddpg": "learner.algorithms.ddpg:DDPG",
    "dqn": "learner.algorithms.dqn:DQN",
    "ppo": "learner.algorithms.ppo:PPO",
    "sac": "learner.algorithms.sac:SAC",
    "td3": "learner.algorithms.ddpg:TD3",
    "trpo": "learner.algorithms.trpo:TRPO",
}
"""The project's own, by the name that people use; imported when asked for."""


def resolve(name: str) -> AlgorithmClass:
    """The algorithm of a name, or of `module:Class` for a user's own.

    Raises:
        InvalidFieldError: There is no such algorithm, or it is no subclass of `Algorithm`.
    """
    if not references.is_reference(name) and name not in BUILT_IN:
        raise InvalidFieldError(
            "algorithm",
            f"{name!r} is none of {', '.join(sorted(BUILT_IN))}; for your own give `module:Class`",
        )
    found = references.load(BUILT_IN.get(name, name), "algorithm")
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise InvalidFieldError(
            "algorithm", f"{name!r} is no subclass of learner.algorithms.base.Algorithm"
        )
    return found
