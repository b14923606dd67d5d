"""The curves of several agents, and of their teams where there are several, in a run's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from learner import tables
from learner.statistics import WINDOW, teams_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from learner.run_folder import RunFolder

    Points = NDArray[np.float64]

_RETURN_OF, _GREEDY_OF = "return/", "eval/mean_reward/"
_AGENT_COLORS = ("C1", "C2", "C4", "C5", "C6", "C7", "C8", "C9")
"""Not those that the common mean and evaluations have; more lines would tell nothing apart."""

_VISIBLE = 0.02
"""Agents whose means are nearer to each other than this share of all returns' range look alike."""


def draw(axes: Axes, folder: RunFolder) -> bool:
    """Draws what agents returned in training, and of several teams what each returned.

    Of one team that is a thin line for each agent where they can be told apart, beside what else is
    drawn; of several a line and greedy evaluations for each team.

    Returns:
        Whether there are several teams with returns of their own, whose common mean says little.
    """
    episodes = tables.read(folder.episodes) if folder.episodes.is_file() else {}
    found = [name for name in episodes if name.startswith(_RETURN_OF)]
    returns = {name.removeprefix(_RETURN_OF): _numbers(episodes[name]) for name in found}
    teams = teams_of(returns)
    if len(teams) < 2 or _alike(returns):
        if 1 < len(returns) <= len(_AGENT_COLORS):
            _draw_agents(axes, _numbers(episodes["global_step"]), returns)
        return False
    evaluations = tables.read(folder.evaluations) if folder.evaluations.is_file() else {}
    steps = _numbers(episodes["global_step"])
    for number, (team, agents) in enumerate(teams.items()):
        color, mean = f"C{number}", np.mean([returns[agent] for agent in agents], axis=0)
        label = f"{team}: mean of the last {WINDOW}"
        axes.plot(steps, running_mean(mean, WINDOW), color=color, linewidth=1.8, label=label)
        if greedy := evaluations.get(_GREEDY_OF + team):
            axes.plot(
                _numbers(evaluations["global_step"]),
                _numbers(greedy),
                color=color,
                linewidth=0.8,
                linestyle="--",
                marker="o",
                markersize=4.5,
                label=f"{team}: greedy evaluation",
                zorder=3,
            )
    return True


def _alike(returns: dict[str, Points]) -> bool:
    """Whether all return the same: teams of one reward, such as a speaker and a listener."""
    first, *others = returns.values()
    return all(np.array_equal(first, other) for other in others)


def _draw_agents(axes: Axes, steps: Points, returns: dict[str, Points]) -> None:
    every = np.array(list(returns.values()))
    means = np.array([running_mean(each, WINDOW) for each in every])
    if np.ptp(means, axis=0).max() < _VISIBLE * np.ptp(every):
        return
    for agent, mean, color in zip(returns, means, _AGENT_COLORS, strict=False):
        axes.plot(steps, mean, color=color, linewidth=0.9, label=agent, zorder=2.5)


def running_mean(values: Points, window: int) -> Points:
    """Entry i is the mean of the last `window` values up to i, of all where there are fewer."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    means: Points = (sums[last] - sums[first]) / (last - first)
    return means


def _numbers(column: list[str]) -> Points:
    return np.array(column, np.float64)
