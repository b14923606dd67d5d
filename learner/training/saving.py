"""What of a run is saved, and taken up again by its next process: training state and policy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from common.logging import Logger
from learner import policy_file
from learner.checkpoints import Checkpoints
from learner.exploration import Ladder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from learner.algorithms.base import Algorithm
    from learner.checkpoints import Checkpoint
    from learner.exploration import Exploration
    from learner.metrics import Metrics
    from learner.publishing.publication import Publication
    from learner.training.job import Job

_log = Logger()


class Counters(NamedTuple):
    """How far training is; see `Run`."""

    steps: int
    rows: int
    updates: int


class Saving:
    """Saves a run every so often.

    Args:
        job: What is trained.
        metrics: Of the run; the statistics of its episodes are saved, its observers are told.
    """

    def __init__(self, job: Job, metrics: Metrics) -> None:
        self._job = job
        self._metrics = metrics
        self._checkpoints = Checkpoints(job.folder.checkpoints, kept=job.config.checkpoints_kept)
        self._failures = 0
        self._saved_at = time.perf_counter()

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.perf_counter() - self._saved_at >= self._job.config.checkpoint_seconds

    def restore(self, algorithm: Algorithm[Any], checkpoint: Checkpoint) -> Counters:
        """Puts the algorithm and the statistics into the state that was saved.

        Raises:
            InvalidFieldError: It is of another algorithm or network.
        """
        values = checkpoint.values
        algorithm.load_tensors(checkpoint.tensors)
        algorithm.load_values(values["algorithm"])
        self._metrics.episodes.load_values(values["episodes"])
        return Counters(values["environment_steps"], values["rows"], values["updates"])

    def save(self, algorithm: Algorithm[Any], publication: Publication, counters: Counters) -> int:
        """Saves training state and policy; a disk that refuses must not end the training.

        Returns:
            How many attempts have failed since the last that did not.

        Raises:
            CallbackError: An observer failed.
        """
        self._saved_at = time.perf_counter()
        values = {
            "algorithm": algorithm.values(),
            "environment_steps": counters.steps,
            "version": publication.version,
            "rows": counters.rows,
            "updates": counters.updates,
            "episodes": self._metrics.episodes.values(),
        }
        policy = policy_file.SavedPolicy(
            self._job.algorithm.name,
            publication.version,
            counters.steps,
            self._job.config.evaluation_environment(),
            algorithm.spec,
            algorithm.signature,
            _as_lists(algorithm.scalars(counters.steps)),
            publication.model,
        )
        try:
            self._checkpoints.save(algorithm.tensors(), values)
            policy_file.save(self._job.folder, policy)
        except OSError as error:
            _log.error("checkpoint_not_written", reason=str(error))
            self._failures += 1
        else:
            self._failures = 0
            self._metrics.observers.checkpointed(counters.steps)
        return self._failures


def _as_lists(scalars: Mapping[str, Exploration]) -> dict[str, list[float]]:
    """As a saved policy has them: the values of a ladder's first rung for any slot."""
    return {
        key: value.values(0, 1, 1)
        if isinstance(value, Ladder)
        else [value]
        if isinstance(value, int | float)
        else list(value)
        for key, value in scalars.items()
    }
