"""Samplers as processes of this machine: started, watched, started again, stopped."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError
from common.logging import Logger
from common.machine import usable_cores
from sampler.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = Logger()

RESTARTS = 3
WITHIN_SECONDS = 60.0
"""A sampler that dies more often than `RESTARTS` times within this is given up."""

STOP_SECONDS = 10.0
"""How long a sampler may take to stop before it is killed."""

_HOPELESS = frozenset(ExitCode) - {ExitCode.FINISHED, ExitCode.UNREACHABLE}
"""Exit codes of samplers that would end in the same way again."""


@dataclasses.dataclass(frozen=True)
class LocalConfig:
    """How many samplers run on this machine, and how large they are."""

    samplers: int = 1
    """Sampler processes (runners); each has workers of its own."""

    workers: int = 0
    """Environment workers of each sampler; 0 for one a core, as far as a round has use for them."""

    envs_per_worker: int = 0
    """Environment copies of each worker; 0 for as many as a round needs."""

    in_process: bool = False
    """Run everything in this one process, without sockets and children, for a debugger."""

    def __post_init__(self) -> None:
        """Refuses negative numbers and a run without samplers.

        Raises:
            InvalidFieldError: A number out of range.
        """
        for name, least in (("samplers", 1), ("workers", 0), ("envs_per_worker", 0)):
            if (value := getattr(self, name)) < least:
                raise InvalidFieldError(name, f"{value} is below {least}")

    def resolved(self, n_envs: int | None) -> LocalConfig:
        """The same with numbers in place of zeros.

        Args:
            n_envs: Environments that a round takes; None where it takes all there are.
        """
        cores = usable_cores()
        share = -(-(n_envs or cores) // self.samplers)
        workers = self.workers or min(max(1, cores // self.samplers), share)
        envs_per_worker = self.envs_per_worker or (-(-share // workers) if n_envs else 8)
        return dataclasses.replace(self, workers=workers, envs_per_worker=envs_per_worker)


class LocalSamplers:
    """The sampler processes of a run.

    Args:
        address: Where the learner serves.
        log: Where the sampler of a number writes its stderr.
        modules: Modules whose environments samplers may build.
        on_failure: Called, from a thread of its own, when every sampler was given up.

    Attributes:
        failure: Why there is no sampler any more; None while there is.
    """

    def __init__(
        self,
        address: str,
        *,
        log: Callable[[int], Path],
        modules: tuple[str, ...] = (),
        on_failure: Callable[[], None],
    ) -> None:
        self.failure: str | None = None
        self._address = address
        self._log_of = log
        self._modules = modules
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._stopping = False
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._watchers: list[threading.Thread] = []
        self._alive = 0

    def start(self, layout: LocalConfig) -> None:
        """Starts the samplers that a resolved layout says.

        Raises:
            OSError: A process cannot be started.
        """
        self._alive = layout.samplers
        for number in range(layout.samplers):
            self._spawn(number, layout)
        for number in range(layout.samplers):
            watcher = threading.Thread(
                target=self._watch, args=(number, layout), name=f"sampler-{number}", daemon=True
            )
            self._watchers.append(watcher)
            watcher.start()

    def leave(
        self, kind: type[BaseException] | None, error: object = None, traceback: object = None
    ) -> None:
        """Ends all that still run, as the `__exit__` of a run; of one that is cut off, at once."""
        del error, traceback
        is_cut_off = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.stop(0.0 if is_cut_off else STOP_SECONDS)

    def stop(self, patience_seconds: float = STOP_SECONDS) -> None:
        """Ends all that still run, and returns when they are gone. Safe to repeat.

        Args:
            patience_seconds: How long they may take before they are killed.
        """
        with self._lock:
            self._stopping = True
            processes = list(self._processes.values())
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + patience_seconds
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for watcher in self._watchers:
            watcher.join()

    def _spawn(self, number: int, layout: LocalConfig) -> subprocess.Popen[bytes] | None:
        command = [
            *(sys.executable, "-m", "wiserl.child", str(os.getpid())),
            *("--learner", self._address, "--name", f"local-{number}"),
            *("--workers", str(layout.workers)),
            *("--envs-per-worker", str(layout.envs_per_worker)),
            *(part for module in self._modules for part in ("--allow-module", module)),
        ]
        with self._lock:
            if self._stopping:
                return None
            with self._log_of(number).open("ab") as log:
                # A session of its own: Ctrl-C is for the learner, which then stops its samplers.
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
                )
            self._processes[number] = process
        return process

    def _watch(self, number: int, layout: LocalConfig) -> None:
        """Waits for one sampler's end and starts it again where that may help."""
        deaths: collections.deque[float] = collections.deque(maxlen=RESTARTS + 1)
        process: subprocess.Popen[bytes] | None = self._processes[number]
        while process is not None:
            code = process.wait()
            if self._stopping or code == ExitCode.FINISHED:
                return
            deaths.append(time.monotonic())
            often = len(deaths) > RESTARTS and deaths[-1] - deaths[0] < WITHIN_SECONDS
            if often or code in _HOPELESS:
                self._give_up(number, code)
                return
            _log.warning("sampler_restarted", sampler=number, exit_code=code)
            # The thread that starts a child must outlive it (see wiserl.child): this one does.
            process = self._spawn(number, layout)

    def _give_up(self, number: int, code: int) -> None:
        reason = f"sampler {number} stopped with exit code {code}: {self._last_words(number)}"
        _log.error("sampler_given_up", sampler=number, exit_code=code)
        with self._lock:
            self._alive -= 1
            over = self._alive == 0
            if over:
                self.failure = reason
        if over:
            self._on_failure()

    def _last_words(self, number: int) -> str:
        path = self._log_of(number)
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it wrote nothing"
        with contextlib.suppress(ValueError, AttributeError):
            last = json.loads(last).get("reason", last).rstrip()
        return f"{last} (see {path})"
