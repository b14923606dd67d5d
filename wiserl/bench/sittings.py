"""The folder of a unit that is not finished: who is at it, and the sittings that it took so far."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
from typing import TYPE_CHECKING, Any

from learner import files
from wiserl.bench import queue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

RUN_FOLDERS = "*/*/*"
"""Where runs lie in a folder of runs: environment, algorithm, time and seed."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes a unit's folder where there is none, and keeps other queues out of it.

    Raises:
        TakenError: Another queue is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            # Of the open folder, so the kernel lets go of it when this process is killed.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.fstat(descriptor), folder.stat())
        except (BlockingIOError, FileNotFoundError):
            is_there = False
        if not is_there:  # also where another has just finished the unit
            raise queue.TakenError("another queue is at it")
        yield


@dataclasses.dataclass(frozen=True)
class Sittings:
    """What is known of the sittings of a unit; the time of its file is when the last one began.

    Attributes:
        command: What trains it, from the start.
        code_sha256: Of the code that trains.
        seconds: Those that all sittings before the last one took, until they last wrote a row.
        count: How many there were.
    """

    command: str = ""
    code_sha256: str = ""
    seconds: float = 0.0
    count: int = 0

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What the folder says; none where it says nothing that can be read."""
        try:
            return cls(**json.loads((folder / "sittings.json").read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    @classmethod
    def note_another(cls, folder: Path, command: str, code: str) -> None:
        """Notes that a sitting begins."""
        before = cls.read(folder)
        seconds = before.seconds + before.last(folder)
        now = cls(command, code, seconds, before.count + 1)
        files.replace(folder / "sittings.json", files.json_bytes(dataclasses.asdict(now)))

    def last(self, folder: Path) -> float:
        """Seconds of the last sitting."""
        wrote = [path.stat().st_mtime for path in folder.glob(f"{RUN_FOLDERS}/*")]
        began = (folder / "sittings.json").stat().st_mtime if self.count else math.inf
        return max(0.0, max(wrote, default=0.0) - began)

    def finished(self, folder: Path) -> dict[str, Any]:
        """What the result says of them."""
        return {
            "wall_seconds": round(self.seconds + self.last(folder), 2),
            "sittings": self.count,
            "command": self.command,
            "code_sha256": self.code_sha256,
        }
