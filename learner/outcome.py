"""How a run ended, for people and for `result.json`."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from learner.metrics import Evaluation


class Status(enum.StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    """The step budget is met, or a callback had enough; the final policy is evaluated."""
    STOPPED = "stopped"
    """Someone asked it to stop; its state is in a checkpoint."""
    FAILED = "failed"
    """An error ended it."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        status: How it ended.
        folder: The run's.
        environment_steps: Steps that were trained on, by all processes of the run.
        first_step: Those of the processes before this one.
        version: The newest policy published.
        seconds: From the start of training to its end, evaluations included.
        first_update_seconds: From the start of training to the end of the first update, if any.
        final: The evaluation of the final policy, where there was one.
        metrics: The newest value of every metric.
        losses: Pushes and rows that were not trained on, by reason.
        error: What ended a run that failed.
        signal: The one that asked a run to stop.
        stop_reason: Why a callback had a run finish before its step budget was met.
    """

    status: Status
    folder: Path
    environment_steps: int
    version: int
    seconds: float
    first_update_seconds: float | None = None
    final: Evaluation | None = None
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    losses: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    error: str | None = None
    signal: int | None = None
    stop_reason: str | None = None
    first_step: int = 0

    @property
    def steps_per_second(self) -> float:
        """Of this process, evaluations included."""
        return (self.environment_steps - self.first_step) / self.seconds if self.seconds else 0.0

    @property
    def complaint(self) -> str:
        """What a person is told of a run that failed, and where its record is."""
        error = str(self.error)
        return error if str(self.folder) in error else f"{error} (the record is in {self.folder})"

    def to_json(self) -> dict[str, Any]:
        """The outcome as `result.json` has it; numbers that JSON lacks (NaN, infinity) are null."""
        described = {
            "status": self.status.value,
            "error": self.error,
            "stop_reason": self.stop_reason,
            "environment_steps": self.environment_steps,
            "version": self.version,
            "seconds": self.seconds,
            "first_update_seconds": self.first_update_seconds,
            "final_evaluation": self.final.to_json() if self.final else None,
            "metrics": self.metrics,
            "losses": self.losses,
        }
        finite: dict[str, Any] = _finite(described)
        return finite


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
