"""Who is told how a run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from learner.metrics import Evaluation


class Observer:
    """Does nothing; subclasses show what they like. Calls come from the training thread."""

    def began(self, version: int) -> None:
        """The first policy is published, and samplers roll."""

    def trained(self, environment_steps: int, version: int, metrics: dict[str, float]) -> None:
        """A round was trained on and `version` is out; `metrics` are the newest of all."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """An evaluation is complete."""

    def close(self) -> None:
        """The run is over."""
