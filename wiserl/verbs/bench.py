"""`wiserl bench`: what is claimed about learning, measured again."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from common.errors import InvalidFieldError
from wiserl import parsing

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class BenchFlags:
    """Trains every (task, seed) of the learning benchmark that has no result yet, then shows all.

    A finished run is one data file; the queue can be stopped at any time and goes on later, a run
    that was stopped in its middle from its last checkpoint.
    """

    benchmark: Annotated[Literal["learning"], tyro.conf.Positional]
    """Which benchmark."""

    task: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Only this task; repeat the flag for several. All of the file by default."""

    tasks: Path | None = None
    """YAML file of tasks in place of wiserl/bench/tasks.yaml, which shows how they are written;
    algorithms and environments may be your own."""

    minutes: float = math.inf
    """Start no run after this, and stop one that still runs then; 0 only shows the table."""

    results: Path = Path("benchmarks/results/learning")
    """Folder of the data files."""

    unfinished: Path = Path("runs/bench")
    """Folder of the runs that are not finished. Where the code or the task has changed they begin
    anew."""

    table: Path | None = None
    """Write the table to this file too, in Markdown."""


FLAGS = BenchFlags


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    parsed = parsing.one(BenchFlags, arguments, program="wiserl bench")
    if math.isnan(parsed.minutes) or parsed.minutes < 0:
        raise InvalidFieldError("minutes", f"{parsed.minutes} is no time to run for")
    from wiserl.bench import learning, queue, report, tasks

    chosen = tasks.select(parsed.task, parsed.tasks)
    runs = queue.Queue(parsed.results, learning.Training(parsed.unfinished))
    runs.work(tasks.units(chosen), minutes=parsed.minutes, report=_say)
    table = report.table(parsed.results, chosen)
    print(table)
    if parsed.table is not None:
        parsed.table.write_text(table + "\n", encoding="utf-8")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
