"""The queue of learning runs: a unit is one (task, seed); a finished unit is one data file.

Units that have a file are skipped, so that the queue can be stopped at any time and goes on later,
also with other code. Several queues may work at the same units.
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
from common.parent import die_with
from learner import files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from wiserl.bench.tasks import Unit

    Train: TypeAlias = Callable[[Unit, float], AbstractContextManager[dict[str, Any] | None]]
    """Makes the result of a unit within so many seconds, or None; `score` and `wall_seconds` are
    among it. What it was made from may go when the context ends without an exception."""


class TakenError(WiseRLError):
    """Another queue is at the unit."""


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

    def work(self, units: Sequence[Unit], *, minutes: float, report: Callable[[str], None]) -> int:
        """Runs units without a result; starts none after `minutes`, and ends one that still runs.

        Returns:
            How many were finished.

        Raises:
            WiseRLError: A run failed; its output is in the message.
        """
        deadline = time.monotonic() + 60 * minutes
        finished = 0
        for unit in units:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if self.path(unit).exists():
                continue
            name = f"{unit.task.name} seed {unit.seed}"
            report(f"{name} ...")
            try:
                with self.train(unit, left) as result:
                    if result is None:
                        report(f"{name}: out of time, no result yet")
                        break
                    self._keep(unit, result)
            except TakenError as error:
                report(f"{name}: {error}")
                continue
            finished += 1
            report(f"{name}: {result['score']:.1f} in {result['wall_seconds']:.0f} s")
        return finished

    def _keep(self, unit: Unit, result: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        files.replace(self.path(unit), files.json_bytes(result))


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
