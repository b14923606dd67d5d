"""The queue of learning runs: a unit is one (task, seed); a finished unit is one data file.

Units that have a file are skipped, so that the queue can be stopped at any time and goes on later,
also with other code.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from common.errors import WiseRLError
from learner import files
from wiserl.child import die_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wiserl.bench.tasks import Unit

    Train: TypeAlias = Callable[[Unit, float], dict[str, Any] | None]
    """Makes the result of a unit within so many seconds, or None; `score` and `wall_seconds` are
    among it."""


@dataclasses.dataclass(frozen=True)
class Queue:
    """Runs units one after the other and keeps their results under `folder`.

    Attributes:
        folder: Where the data files lie.
        train: Makes the result of a unit.
    """

    folder: Path
    train: Train

    def path(self, unit: Unit) -> Path:
        """Where the unit's result lies, or will."""
        return self.folder / unit.file_name

    def missing(self, units: Sequence[Unit]) -> list[Unit]:
        """The units without a result, in their order."""
        return [unit for unit in units if not self.path(unit).exists()]

    def work(self, units: Sequence[Unit], *, minutes: float, report: Callable[[str], None]) -> int:
        """Runs missing units; starts none after `minutes`, and ends one that then still runs.

        Returns:
            How many were finished.

        Raises:
            WiseRLError: A run failed; its output is in the message.
        """
        deadline = time.monotonic() + 60 * minutes
        finished = 0
        for unit in self.missing(units):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            report(f"{unit.task.name} seed {unit.seed} ...")
            result = self.train(unit, left)
            if result is None:
                report(f"{unit.task.name} seed {unit.seed}: out of time, no result yet")
                break
            self.folder.mkdir(parents=True, exist_ok=True)
            files.replace(self.path(unit), files.json_bytes(result))
            finished += 1
            score, seconds = result["score"], result["wall_seconds"]
            report(f"{unit.task.name} seed {unit.seed}: {score:.1f} in {seconds:.0f} s")
        return finished


def run(command: Sequence[str], seconds: float, *, given: str | None = None) -> str | None:
    """What a command prints that gets `given` to read; None where it took longer than `seconds`.

    It ends with this process, whatever ends that.

    Raises:
        WiseRLError: It failed; its errors are in the message.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            check=True,
            capture_output=True,
            text=True,
            input=given,
            timeout=None if math.isinf(seconds) else seconds,
            preexec_fn=functools.partial(die_with, os.getpid()),
        )
    except subprocess.TimeoutExpired:
        return None
    except subprocess.CalledProcessError as error:
        raise WiseRLError(f"{' '.join(command)} failed:\n{error.stderr}") from None
    return done.stdout
