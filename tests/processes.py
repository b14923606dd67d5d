"""Real learners and samplers as processes, for tests that need the whole."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from run_tables import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 120.0
"""How long a test waits for anything at all before it says that it will not come."""

SMALL_ROUNDS = ("--n-envs", "8", "--n-steps", "64", "--n-minibatches", "2", "--epochs", "2")
SMALL_ROUNDS += ("--eval-points", "0", "--final-eval-episodes", "4")


_held = contextlib.ExitStack()
atexit.register(_held.close)


def free_port() -> int:
    """A port of this machine's loopback on which nobody but the test will listen.

    It stays bound, without listening, until these tests are over: the kernel gives it to nobody who
    asks for any port, also between two learners that take turns on it. Whoever asks for it by its
    number may have it, as long as nobody listens there (SO_REUSEADDR, which servers set).
    """
    holder = _held.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return int(holder.getsockname()[1])


@contextlib.contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Within it no other process of these tests does the same, such as installing something."""
    path = Path(tempfile.gettempdir()) / f"wiserl-tests-{os.getuid()}-{what}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wiserl(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "wiserl.cli", *arguments]


def run_folder(runs: Path) -> Path:
    """The one run's folder under `runs`."""
    (folder,) = [path.parent for path in runs.glob("*/*/*/config.yaml")]
    return folder


def result(runs: Path) -> dict:
    return json.loads((run_folder(runs) / "result.json").read_text())


def metrics(runs: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the columns that hold times."""
    return [
        {name: value for name, value in row.items() if not name.startswith("time/")}
        for row in rows(run_folder(runs))
    ]


def steps_so_far(runs: Path) -> int:
    paths = list(runs.glob("*/*/*/metrics.csv"))
    if not paths:
        return 0
    steps = [int(row["global_step"]) for row in rows(paths[0].parent) if row["global_step"]]
    return steps[-1] if steps else 0


def until(what: str, holds: Callable[[], bool], *, pause_seconds: float = 0.01) -> None:
    """Waits for a condition, and fails by its name where it does not come."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(pause_seconds)


@contextlib.contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is killed when the test is through with it."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def descendants(pid: int) -> set[int]:
    """All processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
