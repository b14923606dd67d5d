"""The record of a run: its tables and TensorBoard curves, round by round and version by version.

`metrics.csv`, `episodes.csv` and `evaluations.csv` depend on the seed and the settings alone: their
rows follow the rounds of training and the order of versions, never arrival. What depends on the
machine stands in columns whose names begin with `time/`.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from common.logging import Logger
from learner.statistics import EpisodeStatistics, finished_episodes
from learner.tables import Table
from learner.tensorboard import EventFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from learner.experience.on_policy import OnPolicyBatch
    from learner.run_folder import RunFolder
    from protos.wiserl.v1 import learner_pb2

_log = Logger()

_EVENT_SECONDS = 0.1
"""TensorBoard gets points no more often: its records cost time to frame, and nobody sees more."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Greedy episodes of one version.

    Attributes:
        version: The policy's.
        global_step: Environment steps that it was trained on.
        final: Whether it is the evaluation of the final policy.
        seeds: One an episode.
        returns: In the order of `seeds`.
        lengths: Steps, in the same order.
    """

    version: int
    global_step: int
    final: bool
    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(
        cls,
        version: int,
        global_step: int,
        episodes: Sequence[learner_pb2.EvaluatedEpisode],
        *,
        final: bool,
    ) -> Evaluation:
        """The evaluation that these episodes, in the order of seeds, make up."""
        return cls(
            version,
            global_step,
            final,
            tuple(episode.seed for episode in episodes),
            tuple(episode.episode.episode_return for episode in episodes),
            tuple(episode.episode.length for episode in episodes),
        )

    def scalars(self) -> dict[str, float]:
        """Mean, standard deviation, extremes and mean length, by metric name."""
        returns = np.array(self.returns, np.float64)
        return {
            "eval/mean_reward": float(returns.mean()),
            "eval/std_reward": float(returns.std()),
            "eval/min_reward": float(returns.min()),
            "eval/max_reward": float(returns.max()),
            "eval/mean_ep_length": float(np.mean(self.lengths)),
        }

    def describe(self) -> str:
        """The returns in a line for people."""
        returns = np.array(self.returns, np.float64)
        return (
            f"return {returns.mean():.2f} +- {returns.std():.2f} "
            f"over {len(returns)} greedy episodes "
            f"(min {returns.min():.2f}, max {returns.max():.2f})"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        returns = np.array(self.returns, np.float64)
        return {
            "version": self.version,
            "environment_steps": self.global_step,
            "episodes": len(self.returns),
            "return_mean": float(returns.mean()),
            "return_std": float(returns.std()),
            "return_min": float(returns.min()),
            "return_max": float(returns.max()),
            "length_mean": float(np.mean(self.lengths)),
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "seeds": list(self.seeds),
        }


class Metrics:
    """Writes the record of a run into its folder.

    Args:
        folder: The run's.

    Attributes:
        episodes: The statistics of training episodes.
        newest: The newest value of every metric.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.episodes = EpisodeStatistics()
        self.newest: dict[str, float] = {}
        self._folder = folder
        self._rounds = Table(folder.metrics, ("round", "global_step"))
        self._episodes = Table(folder.episodes, ("global_step", "return", "length"))
        self._evaluations = Table(
            folder.evaluations, ("version", "global_step", "final", "episodes")
        )
        self._events: EventFile | None = None
        self._last_event = -math.inf
        self._pending: tuple[int, dict[str, float]] | None = None

    def round(
        self,
        batch: OnPolicyBatch,
        *,
        steps_before: int,
        training: Mapping[str, float],
        timing: Mapping[str, float],
    ) -> None:
        """Records a round that was trained on.

        Args:
            batch: The round.
            steps_before: Environment steps of the run before it.
            training: What the algorithm's update reported.
            timing: What depends on the machine, by names that begin with `time/`.
        """
        ended = finished_episodes(batch, steps_before)
        self.episodes.add(ended)
        self._episodes.append(
            *(
                {
                    "global_step": episode.global_step,
                    "return": episode.episode_return,
                    "length": episode.length,
                    **episode.metrics,
                }
                for episode in ended
            )
        )
        step = steps_before + batch.steps
        scalars = {**self.episodes.scalars(), **training, **timing}
        self._rounds.append({"round": batch.version, "global_step": step, **scalars})
        self._add(step, {name: float(v) for name, v in scalars.items() if v is not None})

    def evaluation(self, evaluation: Evaluation) -> None:
        """Records an evaluation; call it in the order of versions."""
        scalars = evaluation.scalars()
        self._evaluations.append(
            {
                "version": evaluation.version,
                "global_step": evaluation.global_step,
                "final": int(evaluation.final),
                "episodes": len(evaluation.returns),
                **scalars,
            }
        )
        self.newest.update(scalars)
        self._write_event(evaluation.global_step, scalars)

    def close(self) -> None:
        """Writes what is outstanding."""
        if self._pending is not None:
            self._write_event(*self._pending)
        if self._events is not None:
            self._events.close()

    def _add(self, step: int, scalars: dict[str, float]) -> None:
        self.newest.update(scalars)
        self._pending = (step, scalars)
        now = time.monotonic()
        if now - self._last_event >= _EVENT_SECONDS:
            self._last_event = now
            self._write_event(step, scalars)
            self._pending = None

    def _write_event(self, step: int, scalars: Mapping[str, float]) -> None:
        try:
            if self._events is None:
                self._events = EventFile(self._folder.path)
            self._events.add(step, scalars)
        except OSError as error:
            _log.error("tensorboard_not_written", reason=str(error))
