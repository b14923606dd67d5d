"""What the last training episodes were like, in true steps and raw rewards."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from common.signature import ColumnKey, Role
from common.specs import role_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from learner.experience.on_policy import OnPolicyBatch
    from protos.wiserl.v1 import trajectory_pb2

WINDOW = 100
"""Episodes that the curves are the mean of, as in Stable-Baselines3."""

SHORT_WINDOW = 20

_SUCCESS = "is_success"


@dataclasses.dataclass(frozen=True)
class FinishedEpisode:
    """A training episode.

    Attributes:
        global_step: Environment steps of the run when it ended.
        episode_return: The sum of raw rewards.
        length: In steps.
        metrics: What the environment reported at its end.
        agent_returns: The sum of each of several agents by name, of which `episode_return` is the
            mean.
    """

    global_step: int
    episode_return: float
    length: int
    metrics: Mapping[str, float]
    agent_returns: Mapping[str, float] = dataclasses.field(default_factory=dict)


def teams_of(agents: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The agents of each team, by the team's name: their role, or the name of an agent alone.

    Agents of one role are a team.
    """
    roles: dict[str, list[str]] = {}
    for agent in agents:
        roles.setdefault(role_of(agent), []).append(agent)
    return {
        role if len(members) > 1 else members[0]: tuple(members) for role, members in roles.items()
    }


def with_teams(returns: Mapping[str, float]) -> dict[str, float]:
    """Returns by agent, and the mean of each team of several where there is another one."""
    teams = {
        team: [returns[agent] for agent in members]
        for team, members in teams_of(returns).items()
        if 1 < len(members) < len(returns)
    }
    return {**returns, **{team: math.fsum(each) / len(each) for team, each in teams.items()}}


def finished_episodes(
    batch: OnPolicyBatch, steps_before: int, agents: Sequence[str] = ()
) -> list[FinishedEpisode]:
    """The episodes that ended in a round, in the order in which they did (by slot where together).

    Args:
        batch: The round.
        steps_before: Environment steps of the run before it.
        agents: The names of several.
    """
    valid = batch.columns[ColumnKey(Role.VALID)]
    ends = batch.columns[ColumnKey(Role.EPISODE_END)] & valid
    # The round's episodes stand slot after slot and row after row, as the ends do once transposed.
    slots, rows = np.nonzero(ends.T)
    steps = np.cumsum(np.count_nonzero(valid, axis=1))[rows] + steps_before
    if len(batch.episodes) != len(steps):
        # A slot that pushed its ends without their episodes: all we know is the round.
        steps = np.full(len(batch.episodes), steps_before + batch.steps)
        slots = np.arange(len(batch.episodes))
    order = np.lexsort((slots, steps))
    return [finished(batch.episodes[i], int(steps[i]), agents) for i in order]


def finished(
    episode: trajectory_pb2.Episode, global_step: int, agents: Sequence[str] = ()
) -> FinishedEpisode:
    """An episode that ended when the run had so many environment steps; `agents` are the names."""
    return FinishedEpisode(
        global_step,
        episode.episode_return,
        episode.length,
        dict(sorted(episode.metrics.items())),
        dict(zip(agents, episode.agent_returns, strict=True)),
    )


class EpisodeStatistics:
    """Means over the last episodes."""

    def __init__(self) -> None:
        self._last: collections.deque[FinishedEpisode] = collections.deque(maxlen=WINDOW)
        self.episodes = 0

    def add(self, episodes: Iterable[FinishedEpisode]) -> None:
        """Takes episodes in, in the order in which they ended."""
        for episode in episodes:
            self._last.append(episode)
            self.episodes += 1

    def scalars(self) -> dict[str, float | None]:
        """The means by metric name; None before the first episode."""
        last = list(self._last)
        scalars = {
            "rollout/ep_rew_mean": _mean(episode.episode_return for episode in last),
            "rollout/ep_rew_mean_20": _mean(
                episode.episode_return for episode in last[-SHORT_WINDOW:]
            ),
            "rollout/ep_len_mean": _mean(episode.length for episode in last),
            "rollout/episodes": self.episodes,
        }
        by_name = [with_teams(episode.agent_returns) for episode in last if episode.agent_returns]
        for name in by_name[-1] if by_name else ():
            scalars[f"rollout/ep_rew_mean/{name}"] = _mean(returns[name] for returns in by_name)
        for name in sorted({name for episode in last for name in episode.metrics}):
            shown = "rollout/success_rate" if name == _SUCCESS else f"rollout/{name}"
            scalars[shown] = _mean(
                episode.metrics[name] for episode in last if name in episode.metrics
            )
        return scalars

    def values(self) -> dict[str, Any]:
        """The state as JSON has it, for a checkpoint."""
        return {
            "episodes": self.episodes,
            "last": [dataclasses.asdict(episode) for episode in self._last],
        }

    def load_values(self, values: Mapping[str, Any]) -> None:
        """Takes over the state of `values()`."""
        self.episodes = values["episodes"]
        self._last.clear()
        self._last.extend(FinishedEpisode(**episode) for episode in values["last"])


def _mean(numbers: Iterable[float]) -> float | None:
    found = list(numbers)
    return math.fsum(found) / len(found) if found else None
