"""The presets that there are, what they set, and what they reached here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from learner import presets
from learner.config import RunConfig
from wiserl.bench import reached
from wiserl.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from wiserl.bench.reached import Reached


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings of an algorithm for an environment.

    Attributes:
        algorithm: Its name, or `module:Class`.
        environment: Its id; `default` for all that have no preset of their own.
        total_steps: The budget in environment steps.
        layers: Where the settings come from.
        reached: What it came to here; None where it was not run to its end.
    """

    algorithm: str
    environment: str
    total_steps: int
    layers: Settings
    reached: Reached | None

    def settings(self) -> dict[str, Any]:
        """What differs from the defaults, of the run first; imports torch."""
        from learner.algorithms import registry

        own = registry.resolve(self.algorithm).Config()
        return {
            field.name: value
            for default, section in ((RunConfig(), "run"), (own, "hyperparameters"))
            for field in dataclasses.fields(default)
            if (value := getattr(self.layers.applied(default, section), field.name))
            != getattr(default, field.name)
        }

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; imports torch."""
        return {
            "algorithm": self.algorithm,
            "environment": self.environment,
            "total_steps": self.total_steps,
            "settings": self.settings(),
            "reached": None if self.reached is None else dataclasses.asdict(self.reached),
        }


def find(algorithm: str | None = None, own: Path | None = None) -> list[Preset]:
    """The presets of an algorithm, of all by default; that for any environment comes first.

    Args:
        algorithm: Its name, or `module:Class`.
        own: A file of presets of the user's own, for that algorithm.

    Raises:
        InvalidFieldError: The file is none of presets, or has a setting that cannot be.
    """
    results = reached.load()
    names = presets.algorithms() if algorithm is None else [algorithm]
    return [
        _preset(name, environment, own, results.get((name, environment)))
        for name in names
        for environment in (presets.DEFAULT, *presets.environments(name, own))
    ]


def _preset(algorithm: str, environment: str, own: Path | None, came_to: Reached | None) -> Preset:
    layers = Settings.gather(algorithm, environment=environment, own_presets=own, variables={})
    total_steps = layers.applied(RunConfig(), "run").total_steps
    return Preset(algorithm, environment, total_steps, layers, came_to)
