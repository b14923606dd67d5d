"""The tables of the learning benchmark, made from its data files and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from wiserl.bench import statistics
from wiserl.bench.tasks import units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wiserl.bench.tasks import Task

_COLUMNS = (
    *("task", "steps", "seeds", "IQM [95 % interval]", "gate", "stretch", "each seed"),
    *("steps to the gate", "s a run"),
)


def read(folder: Path, task: Task) -> list[dict[str, Any]]:
    """The finished units of a task, in the order of its seeds; no file of another seed counts."""
    paths = [folder / unit.file_name for unit in units([task])]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def steps_to(record: dict[str, Any], threshold: float) -> int | None:
    """Environment steps until the mean of 100 training episodes first reached a return.

    None where it never did.
    """
    curve = record["curve"]
    for step, value in zip(curve["environment_steps"], curve["ep_rew_mean"], strict=True):
        if value >= threshold:
            return int(step)
    return None


def row(task: Task, records: Sequence[dict[str, Any]]) -> str:
    """One line of the table."""
    scores = [float(record["score"]) for record in records]
    if not scores:
        return (
            f"| {task.name} | {task.total_steps:,} | 0 | not run "
            f"| {task.gate:g} | {task.stretch:g} | | | |"
        )
    decimals = 1 if abs(task.stretch) >= 10 else 2
    said = f"{{:.{decimals}f}}".format
    middle = statistics.interquartile_mean(scores)
    low, high = statistics.interval(scores)
    verdict = "met" if middle >= task.gate else "MISSED"
    reached = [steps_to(record, task.gate) for record in records]
    walls = sorted(float(record["wall_seconds"]) for record in records)
    return (
        f"| {task.name} | {task.total_steps:,} | {len(scores)} "
        f"| {said(middle)} [{said(low)}, {said(high)}] | {task.gate:g} {verdict} "
        f"| {task.stretch:g} | {', '.join(map(said, scores))} "
        f"| {', '.join('-' if step is None else f'{step:,}' for step in reached)} "
        f"| {walls[len(walls) // 2]:.0f} |"
    )


def beside(tasks: Sequence[Task], measured: Mapping[str, Mapping[str, float]]) -> str | None:
    """A table of what returns are to be seen beside, as Markdown; None without any.

    Args:
        tasks: Those of one environment have the same anchors.
        measured: Mean returns by environment and whose they are. Environments are left out that are
            not among them, or that neither have anchors nor more than one of them.
    """
    known = {
        task.env: task.anchors
        for task in tasks
        if task.env in measured and (task.anchors or len(measured[task.env]) > 1)
    }
    if not known:
        return None
    lines = ["| environment | measured here | others |", "|---|---|---|"]
    for env, anchors in known.items():
        here = ", ".join(f"{name} {value:.2f}" for name, value in measured[env].items())
        others = ", ".join(f"{name} {value:g}" for name, value in anchors.items())
        lines.append(f"| {env} | {here} | {others or '-'} |")
    return "\n".join(lines)


def table(folder: Path, tasks: Sequence[Task]) -> str:
    """The whole table as Markdown."""
    header = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    return "\n".join([*header, *(row(task, read(folder, task)) for task in tasks)])
