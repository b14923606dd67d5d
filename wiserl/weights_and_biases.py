"""Weights & Biases: a run's settings and curves, online or offline.

    wiserl train ppo --env CartPole-v1 --callback wiserl.weights_and_biases:WeightsAndBiases

`WANDB_PROJECT`, `WANDB_MODE=offline` and the other variables of wandb hold; its own files lie in
the run's folder. It comes with the extra `wiserl[wandb]`.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import InvalidFieldError
from learner.observer import Observer
from learner.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from learner.metrics import Evaluation
    from learner.outcome import Outcome
    from learner.run_folder import RunFolder

PROJECT = "wiserl"
"""Where `WANDB_PROJECT` names no other."""

_STEPS = "global_step"


class WeightsAndBiases(Observer):
    """Logs every row of `metrics.csv` and every evaluation against environment steps.

    A run that is resumed goes on as the same run there: the run's folder keeps its id, `wandb.id`.

    Args:
        init: Arguments of `wandb.init`, above those that are made here.

    Raises:
        InvalidFieldError: wandb is not installed.
    """

    def __init__(self, **init: Any) -> None:  # noqa: ANN401 - whatever wandb takes
        if importlib.util.find_spec("wandb") is None:
            raise InvalidFieldError("callback", "wandb is missing; pip install 'wiserl[wandb]'")
        self._init = init
        self._run: Any = None

    def opened(self, folder: RunFolder, *, resumed: bool) -> None:
        """Begins the run there, named as its folder and grouped by environment and algorithm."""
        import wandb

        settings = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
        environment, algorithm = settings["run"]["env"], settings["algorithm"]
        kept = folder.path / "wandb.id"
        if not (resumed and kept.is_file()):
            kept.write_text(secrets.token_hex(4), encoding="ascii")
        chosen: dict[str, Any] = {
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "dir": str(folder.path),
            "name": folder.path.name,
            "group": f"{environment} {algorithm}",
            "config": settings,
            "id": kept.read_text(encoding="ascii"),
            "resume": "allow",
            **self._init,
        }
        self._run = wandb.init(**chosen)
        # Evaluations come after the training that followed them: wandb's own step only ascends.
        self._run.define_metric(_STEPS, hidden=True)
        self._run.define_metric("*", step_metric=_STEPS)

    def trained(self, environment_steps: int, version: int, metrics: Mapping[str, float]) -> None:
        """Logs a row."""
        self._run.log({_STEPS: environment_steps, "version": version, **metrics})

    def evaluated(self, evaluation: Evaluation) -> None:
        """Logs an evaluation where its policy stood."""
        self._run.log({_STEPS: evaluation.global_step, **evaluation.scalars()})

    def ended(self, outcome: Outcome) -> None:
        """Sums the run up and ends it there."""
        self._run.summary.update(
            {"status": outcome.status.value, "environment_steps": outcome.environment_steps}
        )
        if outcome.final is not None:
            self._run.summary.update(outcome.final.scalars())
        self._finish(int(outcome.status == Status.FAILED))

    def close(self) -> None:
        """Ends a run that has not come to its end."""
        self._finish(1)

    def _finish(self, code: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code=code)
            self._run = None
