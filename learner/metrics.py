"""What a run is measured by, and how everyone who wants to know is told."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from learner.csv_record import CsvRecord
from learner.observer import Observer, Observers
from learner.statistics import EpisodeStatistics, with_teams
from learner.tensorboard import TensorBoard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from learner.run_folder import RunFolder
    from learner.statistics import FinishedEpisode
    from protos.wiserl.v1 import learner_pb2


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
        agent_returns: Of each of several agents by name, in the same order.
    """

    version: int
    global_step: int
    final: bool
    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    agent_returns: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        version: int,
        global_step: int,
        episodes: Sequence[learner_pb2.EvaluatedEpisode],
        *,
        final: bool,
        agents: Sequence[str] = (),
    ) -> Evaluation:
        """The evaluation that these episodes, in the order of seeds, of these agents make up."""
        apart = [episode.episode.agent_returns for episode in episodes]
        return cls(
            version,
            global_step,
            final,
            tuple(episode.seed for episode in episodes),
            tuple(episode.episode.episode_return for episode in episodes),
            tuple(episode.episode.length for episode in episodes),
            dict(zip(agents, zip(*apart, strict=True), strict=True)) if agents else {},
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
            **{f"eval/mean_reward/{name}": mean for name, mean in self.means().items()},
        }

    def means(self) -> dict[str, float]:
        """The mean return of each of several agents, and of their teams; empty for a single one."""
        return with_teams(
            {agent: float(np.mean(returns)) for agent, returns in self.agent_returns.items()}
        )

    def describe(self, manner: str = "greedy") -> str:
        """The returns in a line for people; `manner` says how actions were chosen."""
        returns = np.array(self.returns, np.float64)
        return (
            f"return {returns.mean():.2f} +- {returns.std():.2f} "
            f"over {len(returns)} {manner} episodes "
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
            **(
                {"agent_returns": {a: list(r) for a, r in self.agent_returns.items()}}
                if self.agent_returns
                else {}
            ),
            "lengths": list(self.lengths),
            "seeds": list(self.seeds),
        }


class Metrics:
    """The numbers of a run; its tables, its TensorBoard curves and its observers are told of them.

    Args:
        folder: The run's.
        resumed: Whether the run goes on with what an earlier process has trained: tables are
            continued then.
        observer: Is told after the tables are written.

    Attributes:
        episodes: The statistics of training episodes.
        newest: The newest value of every metric.
        observers: All of them, for the events that have no numbers; says whether one had enough.
    """

    def __init__(
        self, folder: RunFolder, *, resumed: bool = False, observer: Observer | None = None
    ) -> None:
        self.episodes = EpisodeStatistics()
        self.newest: dict[str, float] = {}
        self._own = Observers([CsvRecord(folder, resumed=resumed), TensorBoard(folder.path)])
        self.observers = Observers([self._own, observer or Observer()])

    def record(
        self,
        *,
        version: int,
        global_step: int,
        episodes: Sequence[FinishedEpisode],
        training: Mapping[str, float],
        timing: Mapping[str, float],
    ) -> None:
        """Records a stretch of training: one row of `metrics.csv`.

        Args:
            version: The newest policy published, trained on `global_step` steps.
            global_step: Environment steps of the run.
            episodes: Those that ended since the last call, in the order in which they did.
            training: What the algorithm reported.
            timing: What depends on the machine, by names that begin with `time/`.

        Raises:
            CallbackError: An observer failed.
        """
        self.episodes.add(episodes)
        means = {name: mean for name, mean in self.episodes.scalars().items() if mean is not None}
        metrics = {**means, **training, **timing}
        self.newest.update(metrics)
        if episodes:
            self.observers.episodes_ended(episodes)
        self.observers.trained(global_step, version, metrics)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Records an evaluation; call it in the order of versions.

        Raises:
            CallbackError: An observer failed.
        """
        self.newest.update(evaluation.scalars())
        self.observers.evaluated(evaluation)

    def close(self) -> None:
        """Writes what is outstanding; the observer is left to who made it."""
        self._own.close()
