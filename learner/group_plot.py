"""One picture of several runs: a panel for each environment, a line for each group of runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from common.errors import WiseRLError
from learner import curves, plots, schema
from learner.statistics import WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from learner.curves import Against, Curve, Group

_COLOURS = ("#4878a8", "#d1495b", "#66a182", "#edae49", "#7b5ea7", "#3d405b", "#e07a5f", "#2a9d8f")

_MOST_COLUMNS = 3

NOTE = "line: mean over runs; band: its 95 % bootstrap interval; thin lines: single runs"

_MINUTES_FROM, _HOURS_FROM = 600.0, 4 * 3600.0


def draw(
    groups: Sequence[Group],
    path: Path,
    *,
    metric: str = curves.RETURN,
    against: Against = "steps",
) -> Path:
    """Draws the mean of each group with its 95 % interval, and every run as a thin line.

    Args:
        groups: At least one.
        path: Where the picture goes, in the format of its ending.
        metric: What is drawn, by its name in `metrics.csv` or `evaluations.csv`.
        against: Environment steps, or the time since training began.

    Returns:
        `path`.

    Raises:
        WiseRLError: No run has a value of the metric, or a column of that name.
    """
    known = {group: _curves(group, metric, against) for group in groups}
    if not any(known.values()):
        raise _nothing(metric, groups)
    environments = list(dict.fromkeys(group.environment for group in groups))
    names = list(dict.fromkeys(group.name for group in groups))
    columns = min(_MOST_COLUMNS, len(environments))
    rows = math.ceil(len(environments) / columns)
    size = (8.0, 4.5) if len(environments) == 1 else (4.8 * columns, 3.4 * rows)
    figure = plots.figure(size)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    longest = max(each.x[-1] for found in known.values() for each in found)
    scale, unit = _scale(longest) if against == "time" else (1.0, "environment steps")
    for axes, environment in zip(panels, environments, strict=False):
        for group, found in known.items():
            if group.environment == environment and found:
                colour = _COLOURS[names.index(group.name) % len(_COLOURS)]
                draw_mean(axes, group.name, found, colour, scale)
        plots.finish(axes, title=environment, x=unit, y=_described(metric))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=9)
    for axes in panels[len(environments) :]:
        axes.remove()
    if any(len(found) > 1 for found in known.values()):
        figure.supxlabel(NOTE, fontsize=8, color="#666666", x=0.99, ha="right")
    figure.savefig(path)
    return path


def _curves(group: Group, metric: str, against: Against) -> list[Curve]:
    found = (curves.curve(run, metric, against) for run in group.runs)
    return [each for each in found if each is not None]


def draw_mean(
    axes: Axes, name: str, found: Sequence[Curve], colour: str, scale: float = 1.0
) -> None:
    """Draws the mean of curves with its 95 % interval, and every one of them as a thin line.

    Args:
        axes: Where.
        name: For the legend.
        found: At least one curve.
        colour: Of all that is drawn.
        scale: What their x is divided by.
    """
    count = f"{len(found)} runs" if len(found) > 1 else "1 run"
    label = f"{name} ({count})"
    mean = curves.mean(found)
    if len(found) > 1 or mean is None:
        for each in found:
            axes.plot(each.x / scale, each.y, color=colour, linewidth=0.7, alpha=0.35)
    if mean is None:
        axes.plot([], [], color=colour, linewidth=0.7, alpha=0.35, label=label)
        return
    x = mean.x / scale
    if len(found) > 1:
        axes.fill_between(x, mean.low, mean.high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, mean.y, color=colour, linewidth=1.8, label=label)


def _scale(seconds: float) -> tuple[float, str]:
    """What to divide seconds by so that as many are easily read, and the name of that."""
    if seconds >= _HOURS_FROM:
        return 3600.0, "hours of training"
    if seconds >= _MINUTES_FROM:
        return 60.0, "minutes of training"
    return 1.0, "seconds of training"


def _described(metric: str) -> str:
    return {
        curves.RETURN: f"return (mean of last {WINDOW} episodes)",
        "eval/mean_reward": "return of greedy episodes",
    }.get(metric, metric)


def _nothing(metric: str, groups: Sequence[Group]) -> WiseRLError:
    known = {name for group in groups for run in group.runs for name in curves.metrics_of(run)}
    if metric in known:
        return WiseRLError(
            f"no run has a value of {metric} yet; wait for the first episodes to end"
        )
    return schema.unknown(metric, known, "metric", "column")
