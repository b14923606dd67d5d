"""The table beside a peer, from the data of both systems and nothing else."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from wiserl.bench import report, statistics, tasks

if TYPE_CHECKING:
    from pathlib import Path

MARGIN = 0.05
"""How much worse than the peer a run may be, as a part of (reference - random)."""

COLUMNS = (
    *("task", "steps", "WiseRL IQM [95 % interval]", "peer IQM [95 % interval]", "seeds"),
    *("difference [95 % interval]", "lower bound must reach", "verdict"),
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A task that both systems were trained on.

    Attributes:
        task: The task.
        ours: Our records, one a seed.
        theirs: The peer's.
        scale: The task's published reference less what uniformly random actions return.
    """

    task: tasks.Task
    ours: list[dict[str, Any]]
    theirs: list[dict[str, Any]]
    scale: float

    @property
    def least(self) -> float:
        """What the lower bound of the difference has to reach, 0 or less."""
        return -MARGIN * self.scale

    @property
    def changed(self) -> list[str]:
        """The hyperparameters in which the two differ; none where they are comparable."""
        sides = [
            [record["configuration"]["hyperparameters"] for record in self.ours],
            [record["hyperparameters"] for record in self.theirs],
        ]
        names = set.intersection(*(set(each) for side in sides for each in side))
        every = [each for side in sides for each in side]
        return sorted(name for name in names if any(e[name] != every[0][name] for e in every))

    def row(self) -> str:
        """One line of the table."""
        ours, theirs = ([float(r["score"]) for r in side] for side in (self.ours, self.theirs))
        middle = statistics.interquartile_mean(ours) - statistics.interquartile_mean(theirs)
        low, high = statistics.difference_interval(ours, theirs)
        verdict = "met" if low >= self.least else "MISSED"
        if self.changed:
            verdict = f"settings differ: {', '.join(self.changed)}"
        return (
            f"| {self.task.name} | {self.task.total_steps:,} | {_spread(ours)} | {_spread(theirs)} "
            f"| {len(ours)}, {len(theirs)} | {middle:+.1f} [{low:+.1f}, {high:+.1f}] "
            f"| {self.least:.1f} | {verdict} |"
        )


def section(results: Path, random: dict[str, float]) -> str | None:
    """The section of the results page; None where no task was run by both.

    Args:
        results: The folder with `learning/` and `peers/`.
        random: Mean return of random actions by environment.
    """
    found = []
    for task in tasks.load().values():
        ours, theirs = (report.read(results / side, task) for side in ("learning", "peers"))
        if ours and theirs and task.reference is not None:
            found.append(Comparison(task, ours, theirs, task.reference - random[task.env]))
    if not found:
        return None
    systems = sorted({record["system"] for each in found for record in each.theirs})
    return "\n".join(
        [
            f"## Beside {' and '.join(systems)}",
            "",
            "The same hyperparameters, which are ours as tuned on this implementation, the same",
            "environment steps, seeds and evaluation (100 greedy episodes of the last policy on",
            "the same seeds). What the peer has no counterpart for, such as double Q-learning in",
            "DQN, it does its own way; each data file lists it as `without_counterpart`. The rule:",
            "the lower bound of the difference is at least",
            f"-{100 * MARGIN:g} % of (published reference - random actions).",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
            *(each.row() for each in found),
        ]
    )


def _spread(scores: list[float]) -> str:
    low, high = statistics.interval(scores)
    return f"{statistics.interquartile_mean(scores):.1f} [{low:.1f}, {high:.1f}]"
