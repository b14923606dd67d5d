"""`wiserl plot`: the learning curves of runs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from common.errors import InvalidFieldError
from wiserl import parsing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.curves import Group

RETURN = "rollout/ep_rew_mean"


@dataclasses.dataclass(frozen=True)
class PlotFlags:
    """Draws learning curves from the tables of runs, also while they still run.

    One run is drawn with its episodes and evaluations. Several are grouped by environment,
    algorithm and label, whatever their seeds, and drawn as the mean of each group with its 95 %
    bootstrap interval.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN ...]")] = (
        Path("runs"),
    )
    """Folders of runs; those in the folders below are found."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where the picture goes, in the format of its ending. By default the folder's curve.png for a
    single run, curves.png in the one folder named, or in the working directory for several."""

    label: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """What to call the runs of a folder; give as many as there are folders, in their order."""

    by: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="SETTING")] = ()
    """Tell runs apart by this setting too, such as learning_rate; repeat the flag for several."""

    metric: str = RETURN
    """What to draw: a column of metrics.csv, or of evaluations.csv such as eval/mean_reward."""

    x: Literal["steps", "time"] = "steps"
    """Against what: environment steps, or the time since training began."""


FLAGS = PlotFlags


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    parsed = parsing.one(PlotFlags, arguments, program="wiserl plot")
    if parsed.label and len(parsed.label) != len(parsed.runs):
        raise InvalidFieldError(
            "label", f"{len(parsed.label)} given for {len(parsed.runs)} folders; give one for each"
        )
    from learner import curves, group_plot, plots

    labels = parsed.label or ("",) * len(parsed.runs)
    found = [
        run
        for path, label in zip(parsed.runs, labels, strict=True)
        for run in curves.find(path, label)
    ]
    if not found:
        raise InvalidFieldError(
            "runs",
            f"there is no run in {', '.join(map(str, parsed.runs))}; name a folder such as runs, "
            "or runs/CartPole-v1/ppo/<time>-s0",
        )
    groups = curves.group(found, parsed.by)
    is_plain = parsed.metric == RETURN and parsed.x == "steps" and not parsed.label
    if len(found) == 1 and is_plain:
        print(plots.draw(found[0].folder, parsed.output))
        return 0
    _warn(groups)
    target = parsed.output or _target(parsed.runs)
    print(group_plot.draw(groups, target, metric=parsed.metric, against=parsed.x))
    return 0


def _target(paths: Sequence[Path]) -> Path:
    return (paths[0] if len(paths) == 1 and paths[0].is_dir() else Path()) / "curves.png"


def _warn(groups: Sequence[Group]) -> None:
    for group in groups:
        if differ := group.differences():
            print(
                f"wiserl: {group.name} on {group.environment} is the mean of runs that differ in "
                f"{', '.join(differ)}; tell them apart with --by {differ[0]}",
                file=sys.stderr,
            )
