"""The queue of learning runs: a unit is one (task, seed); a finished unit is one data file.

Units that have a file are skipped, so that the queue can be stopped at any time and goes on later,
also with other code. Several queues may work at the same units.
"""

from __future__ import annotations

import contextlib
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


_SECONDS_TO_STOP = 30.0
"""A run that is told to stop needs a few, for its checkpoint."""


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

    Then it is told to stop, and killed where that takes too long. It ends with this process,
    whatever ends that.

    Raises:
        WiseRLError: It failed; its errors are in the message.
    """
    with subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdin=None if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=functools.partial(die_with, os.getpid()),  # noqa: PLW1509 - no threads here
    ) as process:
        try:
            limit = None if math.isinf(seconds) else seconds
            printed, errors = process.communicate(given, limit)
        except subprocess.TimeoutExpired:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_SECONDS_TO_STOP)
            return None
        finally:
            process.kill()  # where it has not ended
    if process.returncode:
        raise WiseRLError(f"{' '.join(command)} failed:\n{errors}")
    return printed
