"""What a run is, apart from its algorithm's own hyperparameters."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from common import references, specs
from common.errors import InvalidFieldError
from protos.wiserl.v1 import environment_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EVALUATION_SEEDS_FROM = 1_000_000
"""Evaluation episode i is reset with this plus i: the same in every run, so that runs compare."""

NONE = "none"
"""In place of wrappers: evaluates without those of the training environment."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The settings of a run that every algorithm shares."""

    env: str = ""
    """Environment to train in: a Gymnasium id such as CartPole-v1, or module:factory."""

    env_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keyword arguments of the environment."""

    wrapper: tuple[str, ...] = ()
    """Wrappers of the environment, each module:wrapper, the innermost first."""

    eval_env: str = ""
    """Environment to evaluate in; empty for the same as --env."""

    eval_env_args: dict[str, Any] | None = None
    """Keyword arguments of the evaluation environment; none for the same as the training one's."""

    eval_wrapper: tuple[str, ...] = ()
    """Wrappers of the evaluation environment; by default the training one's, `none` for none."""

    seed: int = 0
    """From which parameters, minibatches, environments and noise follow."""

    total_steps: int = 100_000
    """Budget: environment steps to train for, over all samplers."""

    sync: bool | None = None
    """Synchronous rounds, in which samplers and learner wait for each other and the same seed gives
    the same run; none for what the algorithm does by itself (replay is filled asynchronously)."""

    stop_at_return: float | None = None
    """Ends the run when the mean return of the last 100 training episodes reaches this."""

    eval_points: int = 5
    """Greedy evaluations along the way, evenly spaced from the untrained policy on; 0 for none."""

    eval_episodes: int = 10
    """Episodes of each evaluation along the way."""

    final_eval_episodes: int = 100
    """Episodes of the evaluation of the final policy; 0 for none."""

    device: str = "auto"
    """Where the learner computes: cpu, cuda, cuda:N, or auto for CUDA where there is any."""

    threads: int = 0
    """Threads of the learner's CPU arithmetic; 0 for those that local samplers leave, 1 to 4."""

    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints; a checkpoint at the end is written in any case."""

    checkpoints_kept: int = 2
    """Checkpoints to keep, at least 2 so that a damaged one has one before it."""

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            InvalidFieldError: A number outside its range.
        """
        least = {
            "total_steps": 1,
            "eval_points": 0,
            "eval_episodes": 1,
            "final_eval_episodes": 0,
            "threads": 0,
            "checkpoints_kept": 2,
        }
        for name, bound in least.items():
            if (value := getattr(self, name)) < bound:
                raise InvalidFieldError(name, f"{value} is below {bound}")
        for field in ("wrapper", "eval_wrapper"):
            for name in getattr(self, field):
                if not references.is_reference(name) and (field, name) != ("eval_wrapper", NONE):
                    raise InvalidFieldError(field, f"{name!r} is no module:wrapper")
        if not 0 <= self.seed < 2**63:
            raise InvalidFieldError("seed", f"{self.seed} is not in [0, 2^63)")
        if self.stop_at_return is not None and not math.isfinite(self.stop_at_return):
            raise InvalidFieldError("stop_at_return", f"{self.stop_at_return} is no return")
        if not (math.isfinite(self.checkpoint_seconds) and self.checkpoint_seconds > 0):
            raise InvalidFieldError(
                "checkpoint_seconds", f"{self.checkpoint_seconds} is no positive time"
            )

    def training_environment(self) -> environment_pb2.EnvironmentReference:
        """The environment to train in, as samplers are told.

        Raises:
            InvalidFieldError: No environment was named, or an argument cannot travel.
        """
        if not self.env:
            raise InvalidFieldError("env", "is missing; name one, such as --env CartPole-v1")
        return _reference(self.env, self.env_args, self.wrapper)

    def evaluation_environment(self) -> environment_pb2.EnvironmentReference:
        """The environment to evaluate in, as samplers are told.

        Raises:
            InvalidFieldError: An argument cannot travel.
        """
        arguments = self.env_args if self.eval_env_args is None else self.eval_env_args
        wrappers = [name for name in self.eval_wrapper or self.wrapper if name != NONE]
        return _reference(self.eval_env or self.env, arguments, wrappers)

    def modules(self) -> tuple[str, ...]:
        """The modules that the environments of this run come from."""
        names = (self.env, self.eval_env, *self.wrapper, *self.eval_wrapper)
        found = (references.module_of(name) for name in names if references.is_reference(name))
        return tuple(dict.fromkeys(found))

    def evaluation_steps(self) -> tuple[int, ...]:
        """The step counts from which on the evaluations along the way are due, ascending from 0."""
        return tuple(
            self.total_steps * point // self.eval_points for point in range(self.eval_points)
        )


def evaluation_seeds(episodes: int) -> tuple[int, ...]:
    """The seeds of the first `episodes` evaluation episodes."""
    return tuple(range(EVALUATION_SEEDS_FROM, EVALUATION_SEEDS_FROM + episodes))


def _reference(
    env: str, arguments: Mapping[str, specs.ArgumentValue], wrappers: Sequence[str]
) -> environment_pb2.EnvironmentReference:
    return environment_pb2.EnvironmentReference(
        id=env, arguments=specs.arguments_to_proto(dict(arguments)), wrappers=wrappers
    )
