"""The picture of a run: return against environment steps, and the lag where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import yaml

from common.errors import WiseRLError
from learner import side_plot, tables
from learner.statistics import WINDOW

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from learner.run_folder import RunFolder

    Points = NDArray[np.float64]

_EPISODES_DRAWN = 5_000
"""More points than this only make the file larger; every k-th episode is drawn then."""

_LAGS_DRAWN = 60
"""Rows of metrics are gathered to at most so many: a lag is a small whole number, up and down."""

_TRAINING, _GREEDY, _LAG = "#4878a8", "#d1495b", "#66a182"


def draw(folder: RunFolder, path: Path | None = None) -> Path:
    """Draws a run from its tables, finished or not.

    Single training episodes are faint dots, their mean over the last 100 is a line, greedy
    evaluations are points with the standard deviation and the range over their episodes. Of several
    teams each has its mean and its evaluations instead, of several agents of one each a thin line.
    Below stands how old the experience was, where policies acted that were no longer the newest.

    Args:
        folder: The run's.
        path: Where the picture goes; the folder's `curve.png` by default.

    Returns:
        The path.

    Raises:
        WiseRLError: The folder is not a run's.
    """
    title = _title(folder)
    lags = _columns(folder.metrics, "global_step", "learner/policy_lag", "learner/policy_lag_max")
    if has_lag := bool(np.isfinite(lags[1]).any()):
        drawn = figure((8, 6))
        axes, below = drawn.subplots(2, sharex=True, height_ratios=(3, 1))
        _draw_lag(below, *lags)
    else:
        drawn = figure((8, 4.5))
        axes = drawn.add_subplot()
    if not side_plot.draw(axes, folder):
        _draw_training(axes, folder)
        _draw_evaluations(axes, folder)
    finish(axes, title=title, x="" if has_lag else "environment steps", y="return")
    if any(each.get_legend_handles_labels()[0] for each in drawn.axes):
        # Below, since points are everywhere.
        drawn.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    target = path or folder.curve
    drawn.savefig(target)
    return target


def figure(size: tuple[float, float]) -> Figure:
    """An empty figure of a size in inches, without a window."""
    # pyplot would look for a display, and takes four times as long to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(made)
    return made


def finish(axes: Axes, *, title: str, x: str, y: str) -> None:
    """Gives axes in which everything is drawn their texts and the look of this project."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_formatter(_with_unit)
    axes.set_xlim(left=0)
    axes.margins(x=0.02)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _title(folder: RunFolder) -> str:
    try:
        settings = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
        run = settings["run"]
        return f"{settings['algorithm']} on {run['env']}, seed {run['seed']}"
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        raise WiseRLError(
            f"{folder.path} is no run folder: it has no readable config.yaml; "
            "name one such as runs/CartPole-v1/ppo/<time>-s0"
        ) from None


def _draw_training(axes: Axes, folder: RunFolder) -> None:
    steps, returns = _columns(folder.episodes, "global_step", "return")
    if not len(steps):
        return
    every = -(-len(steps) // _EPISODES_DRAWN)
    axes.plot(
        steps[::every],
        returns[::every],
        linestyle="none",
        marker=".",
        markersize=4,
        markeredgewidth=0,
        alpha=0.35,
        color=_TRAINING,
        rasterized=True,
    )
    # The legend's own point: those drawn are too faint and small to tell what they are.
    axes.plot(
        [],
        [],
        linestyle="none",
        marker="o",
        markersize=4.5,
        markeredgewidth=0,
        alpha=0.5,
        color=_TRAINING,
        label="training episodes" if every == 1 else f"training episodes (1 in {every})",
    )
    axes.plot(
        steps,
        side_plot.running_mean(returns, WINDOW),
        color=_TRAINING,
        linewidth=1.8,
        label=f"mean of the last {WINDOW}",
    )


def _draw_evaluations(axes: Axes, folder: RunFolder) -> None:
    steps, mean, spread, low, high = _columns(
        folder.evaluations,
        "global_step",
        "eval/mean_reward",
        "eval/std_reward",
        "eval/min_reward",
        "eval/max_reward",
    )
    if not len(steps):
        return
    axes.vlines(steps, low, high, color=_GREEDY, linewidth=0.8, alpha=0.6)
    axes.errorbar(
        steps,
        mean,
        # A bar beyond the best or worst return would show returns that nobody got. The mean of
        # equal returns may be the next number beside them.
        yerr=np.maximum(0.0, (np.minimum(spread, mean - low), np.minimum(spread, high - mean))),
        color=_GREEDY,
        linewidth=1.2,
        elinewidth=2.4,
        marker="o",
        markersize=4.5,
        label="greedy evaluation (mean, std, range)",
        zorder=3,
    )


def _draw_lag(axes: Axes, steps: Points, mean: Points, most: Points) -> None:
    """How many publications the policies that acted were behind, from the rows of metrics."""
    from matplotlib.ticker import MaxNLocator

    known = np.flatnonzero(np.isfinite(mean))
    parts = np.array_split(known, min(len(known), _LAGS_DRAWN))
    x, y, top = (
        np.array([reduced(column[part]) for part in parts])
        for column, reduced in ((steps, np.mean), (mean, np.mean), (most, np.max))
    )
    axes.fill_between(x, y, top, color=_LAG, alpha=0.3, linewidth=0, label="up to the largest lag")
    axes.plot(x, y, color=_LAG, linewidth=1.6, label="mean lag of experience")
    finish(axes, title="", x="environment steps", y="lag\n(publications)")
    axes.set_ylim(0, max(1.0, 1.1 * top.max()))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _columns(path: Path, *names: str) -> tuple[Points, ...]:
    """The columns that there are, empty cells as NaN; one that is not there is empty."""
    table = tables.read(path) if path.is_file() else {}
    return tuple(
        np.array([float(cell or "nan") for cell in table.get(name, [])], np.float64)
        for name in names
    )


def _with_unit(value: float, _position: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
