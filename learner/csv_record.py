"""The record of a run as CSV: `metrics.csv`, `episodes.csv` and `evaluations.csv`.

They depend on the seed and the settings alone: rows follow the order of training and of versions,
never arrival. What depends on the machine stands in columns whose names begin with `time/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.observer import Observer
from learner.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from learner.metrics import Evaluation
    from learner.run_folder import RunFolder
    from learner.statistics import FinishedEpisode

_METRICS = (
    "version",
    "global_step",
    "rollout/ep_rew_mean",
    "rollout/ep_rew_mean_20",
    "rollout/ep_len_mean",
    "rollout/episodes",
)
_EPISODES = ("global_step", "return", "length")
_EVALUATIONS = ("version", "global_step", "final", "episodes")


class CsvRecord(Observer):
    """Writes the tables of a run.

    Args:
        folder: The run's.
        resumed: Continue the tables that are there, without the part of a row that a crash left.
    """

    def __init__(self, folder: RunFolder, *, resumed: bool = False) -> None:
        self._metrics = Table(folder.metrics, _METRICS, resumed=resumed)
        self._episodes = Table(folder.episodes, _EPISODES, resumed=resumed)
        self._evaluations = Table(folder.evaluations, _EVALUATIONS, resumed=resumed)

    def episodes_ended(self, episodes: Sequence[FinishedEpisode]) -> None:
        """Writes a row an episode."""
        self._episodes.append(
            *(
                {
                    "global_step": episode.global_step,
                    "return": episode.episode_return,
                    "length": episode.length,
                    **{f"return/{name}": one for name, one in episode.agent_returns.items()},
                    **episode.metrics,
                }
                for episode in episodes
            )
        )

    def trained(self, environment_steps: int, version: int, metrics: Mapping[str, float]) -> None:
        """Writes a row."""
        self._metrics.append({"version": version, "global_step": environment_steps, **metrics})

    def evaluated(self, evaluation: Evaluation) -> None:
        """Writes a row."""
        self._evaluations.append(
            {
                "version": evaluation.version,
                "global_step": evaluation.global_step,
                "final": int(evaluation.final),
                "episodes": len(evaluation.returns),
                **evaluation.scalars(),
            }
        )
