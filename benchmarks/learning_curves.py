"""Draws the training curves of each algorithm, a panel a task, beside the peer's where it ran.

From the data under results/learning/ and results/peers/, into docs/images/learning-<algorithm>.png.

python benchmarks/learning_curves.py
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import numpy as np

from learner import group_plot, plots
from learner.curves import Curve
from wiserl.bench import report, tasks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = harness.ROOT / "docs" / "images"
OURS, PEER = "#4878a8", "#e07a5f"
COLUMNS = 3


def curve(record: dict[str, Any]) -> Curve:
    """The mean return of the last 100 training episodes against environment steps."""
    found = record["curve"]
    return Curve(*(np.array(found[name], float) for name in ("environment_steps", "ep_rew_mean")))


def panel(axes: Axes, results: Path, task: tasks.Task) -> None:
    """One task."""
    for folder, name, colour in (
        ("peers", "Stable-Baselines3", PEER),
        ("learning", "WiseRL", OURS),
    ):
        found = [curve(record) for record in report.read(results / folder, task)]
        if found := [each for each in found if len(each.x)]:
            group_plot.draw_mean(axes, name, found, colour)
    axes.axhline(task.gate, color="#666666", linewidth=0.8, linestyle=":")
    plots.finish(axes, title=task.env, x="environment steps", y="return of 100 training episodes")
    axes.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=9)


def draw(results: Path, folder: Path) -> list[Path]:
    """A picture for each algorithm with data; answers where they are."""
    by_algorithm: dict[str, list[tasks.Task]] = {}
    for task in tasks.load().values():
        if report.read(results / "learning", task):
            by_algorithm.setdefault(task.algorithm, []).append(task)
    made = []
    for algorithm, ours in by_algorithm.items():
        columns = min(COLUMNS, len(ours))
        rows = math.ceil(len(ours) / columns)
        figure = plots.figure((8.0, 4.5) if len(ours) == 1 else (4.8 * columns, 3.4 * rows))
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, task in zip(panels, ours, strict=False):
            panel(axes, results, task)
        for axes in panels[len(ours) :]:
            axes.remove()
        note = f"{group_plot.NOTE}; dotted: the gate"
        figure.supxlabel(note, fontsize=8, color="#666666", x=0.99, ha="right")
        made.append(folder / f"learning-{algorithm}.png")
        figure.savefig(made[-1])
    return made


def main() -> None:
    """Draws all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=harness.RESULTS)
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args()
    for path in draw(options.results, options.images):
        print(path)


if __name__ == "__main__":
    main()
