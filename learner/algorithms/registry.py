"""Algorithms by name."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, TypeAlias

from common import references
from common.errors import InvalidFieldError
from learner.algorithms.base import Algorithm

AlgorithmClass: TypeAlias = type[Algorithm[Any]]

BUILT_IN = {
    "ddpg": "learner.algorithms.ddpg:DDPG",
    "appo": "learner.algorithms.impala:APPO",
    "dqn": "learner.algorithms.dqn:DQN",
    "impala": "learner.algorithms.impala:IMPALA",
    "ippo": "learner.algorithms.mappo:IPPO",
    "iql": "learner.algorithms.qmix:IQL",
    "maddpg": "learner.algorithms.maddpg:MADDPG",
    "mappo": "learner.algorithms.mappo:MAPPO",
    "ppo": "learner.algorithms.ppo:PPO",
    "qmix": "learner.algorithms.qmix:QMIX",
    "sac": "learner.algorithms.sac:SAC",
    "td3": "learner.algorithms.ddpg:TD3",
    "trpo": "learner.algorithms.trpo:TRPO",
    "vdn": "learner.algorithms.qmix:VDN",
}
"""The project's own, by the name that people use; imported when asked for."""


def resolve(name: str) -> AlgorithmClass:
    """The algorithm of a name, or of `module:Class` for a user's own.

    Raises:
        InvalidFieldError: There is no such algorithm, or it is none that can be made.
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
    _check(found, name)
    return found


def _check(algorithm: AlgorithmClass, name: str) -> None:
    """That a user's own class has all that an algorithm needs."""
    if inspect.isabstract(algorithm):
        missing = ", ".join(sorted(algorithm.__abstractmethods__))
        raise InvalidFieldError("algorithm", f"{name!r} does not define {missing}")
    if not isinstance(getattr(algorithm, "name", None), str):
        raise InvalidFieldError("algorithm", f"{name!r} has no `name`; give the class one, a text")
    config = getattr(algorithm, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise InvalidFieldError(
            "algorithm",
            f"{name!r} has no dataclass `Config`; give it one, with a default for each field",
        )
