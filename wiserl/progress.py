"""What a person sees of a run: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import IO, TYPE_CHECKING

from common.specs import role_of
from learner.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from learner.metrics import Evaluation

LINE_SECONDS = 10.0
"""Between two lines where there is no terminal: a log stays readable over hours."""

_REFRESHES_PER_SECOND = 4

_OF_AGENT = "rollout/ep_rew_mean/"


class PlainProgress(Observer):
    """Writes a line every `LINE_SECONDS` and one for each evaluation.

    Args:
        total_steps: The budget.
        stream: Where to.
    """

    def __init__(self, total_steps: int, stream: IO[str]) -> None:
        self._total = total_steps
        self._stream = stream
        self._last = time.monotonic()

    def trained(self, environment_steps: int, version: int, metrics: Mapping[str, float]) -> None:
        """Writes a line where it is time for one."""
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            self._write(" | ".join(_described(environment_steps, self._total, version, metrics)))

    def evaluated(self, evaluation: Evaluation) -> None:
        """Writes the result; that of the final policy stands in what is said at the end."""
        if not evaluation.final:
            self._write(_evaluated(evaluation))

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class LiveProgress(Observer):
    """A bar that is redrawn in place, with evaluations written above it.

    Args:
        total_steps: The budget.
        stream: A terminal.
    """

    def __init__(self, total_steps: int, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        self._total = total_steps
        self._progress = Progress(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(bar_width=20, table_column=Column(no_wrap=True)),
            # On a narrow terminal it takes several lines, rather than the other columns' room.
            TextColumn("{task.description}", table_column=Column(no_wrap=False)),
            console=Console(file=stream),
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
        )
        self._task = self._progress.add_task("waiting for samplers", total=total_steps)
        self._progress.start()

    def began(self, version: int) -> None:
        """Says that samplers roll."""
        del version
        self._progress.update(self._task, description="first round")

    def trained(self, environment_steps: int, version: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar."""
        described = " | ".join(_described(environment_steps, self._total, version, metrics))
        self._progress.update(self._task, completed=environment_steps, description=described)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Writes the result above the bar; the final policy's is said at the end."""
        if not evaluation.final:
            self._progress.console.print(_evaluated(evaluation), highlight=False)

    def close(self) -> None:
        """Takes the bar away."""
        self._progress.stop()


def make_progress(total_steps: int, *, quiet: bool, stream: IO[str] | None = None) -> Observer:
    """The way to show a run that fits where it is shown.

    Args:
        total_steps: The budget.
        quiet: Show nothing.
        stream: stdout by default.
    """
    stream = stream or sys.stdout
    if quiet:
        return Observer()
    return (LiveProgress if stream.isatty() else PlainProgress)(total_steps, stream)


def _described(steps: int, total: int, version: int, metrics: Mapping[str, float]) -> list[str]:
    parts = [f"{steps:,}/{total:,} steps"]
    rate = metrics.get("time/fps")
    if rate:
        parts.append(f"{rate:,.0f} steps/s")
    for name, label in (("rollout/ep_rew_mean_20", "last 20"), ("rollout/ep_rew_mean", "last 100")):
        if name in metrics:
            parts.append(f"{label}: {metrics[name]:.1f}")
    parts += _of_teams(metrics)
    lag = metrics.get("learner/policy_lag")
    parts.append(f"policy {version}" if lag is None else f"policy {version}, lag {lag:.1f}")
    if rate:
        parts.append(f"{_clock((total - steps) / rate)} left")
    return parts


def _of_teams(metrics: Mapping[str, float]) -> list[str]:
    """The mean returns of several teams: that of all agents says little of any.

    Teams of one reward have no more to say.
    """
    means = {
        name.removeprefix(_OF_AGENT): mean
        for name, mean in metrics.items()
        if name.startswith(_OF_AGENT)
    }
    # A team of several has a mean under the name of its role, an agent alone one under its own.
    teams = {role: role if role in means else name for name in means for role in [role_of(name)]}
    shown = {team: f"{means[team]:.1f}" for team in teams.values()}
    apart = len(set(shown.values())) > 1
    return [f"{team}: {mean}" for team, mean in shown.items()] if apart else []


def _evaluated(evaluation: Evaluation) -> str:
    when = f"policy {evaluation.version} after {evaluation.global_step:,} steps"
    return f"{when}: {evaluation.describe()}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
