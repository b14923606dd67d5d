"""A learner that is killed with -9 again and again, and samplers that nobody touches meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import history
import processes

from learner import header
from learner.run_folder import RunFolder

if TYPE_CHECKING:
    import random
    import subprocess
    from collections.abc import Callable, Sequence

    from learner.totals import Totals

SAMPLERS = 2
SLOTS = 3
"""Of each sampler."""

ENVIRONMENT = ("--env", "counting_env:Counting", "--threads", "1", "--quiet", "--seed", "3")
EVALUATIONS = ("--eval-points", "3", "--eval-episodes", "2", "--final-eval-episodes", "500")
"""The last one is long enough to be killed in the middle of it."""

_LOOK_SECONDS = 0.001


@dataclasses.dataclass(frozen=True)
class Kill:
    """What was there right after a kill.

    Attributes:
        totals: In the header.
        tables: In the folder.
        checkpoints: The checkpoints that were whole.
    """

    totals: Totals
    tables: history.Tables
    checkpoints: int


class Run(contextlib.ExitStack):
    """A run whose learner is killed; its samplers run until it is over.

    Args:
        folder: For everything.
        command: The learner's: algorithm and flags.
        budget: Environment steps.

    Attributes:
        kills: All of them, in order.
        violations: What did not hold so far.
        steps: Environment steps as they were seen in the header, in order.
    """

    def __init__(self, folder: Path, command: Sequence[str], budget: int) -> None:
        super().__init__()
        self.kills: list[Kill] = []
        self.violations: list[str] = []
        self.steps: list[int] = []
        self._folder = folder
        self._budget = budget
        self._command = [*command, *ENVIRONMENT, "--total-steps", str(budget)]
        self._port = processes.free_port()
        self._life = contextlib.ExitStack()
        self._lives = 0
        self._began = 0.0
        self._samplers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Starts the learner and its samplers."""
        super().__enter__()
        self.callback(self._life.close)
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            self._start([*self._command, "--runs", str(self.runs)])
            for number in range(SAMPLERS):
                self._samplers.append(self.enter_context(self._sampler(number)))
            failed.pop_all()
        return self

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self._folder / "runs"

    @property
    def path(self) -> Path:
        """The run's folder, once it has its settings."""
        return processes.run_folder(self.runs)

    @property
    def records(self) -> list[history.Record]:
        """What the samplers wrote down so far."""
        paths = [self._record(number) for number in range(SAMPLERS)]
        return [history.read_record(path) for path in paths if path.exists()]

    @property
    def pushes(self) -> list[history.Push]:
        """What they pushed so far."""
        return [push for record in self.records for push in record.pushes]

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Waits for something while the learner goes on."""
        processes.until(what, lambda: self._lives_on() and holds(), pause_seconds=_LOOK_SECONDS)

    def until_steps(self, steps: int) -> None:
        """Waits until so many environment steps are in the header."""
        self.until(f"{steps} steps", lambda: self.look().environment_steps >= steps)

    def until_new_steps(self) -> None:
        """Waits until samplers have brought something to this process, if anything is to come."""
        before = self.kills[-1].totals.environment_steps if self.kills else 0
        self.until_steps(min(before + 1, self._budget))
        print(f"rows {time.monotonic() - self._began:.1f} s after the start")  # noqa: T201

    def until_the_first_checkpoint(self) -> None:
        """Waits until the learner is in the middle of it, or through where that is over at once."""
        folder = RunFolder(self.path).checkpoints
        self.until("a checkpoint", lambda: any(folder.glob("*generation-*")))

    def let_pass(self, seconds: float, steps: int) -> None:
        """Waits for so long, but on a quick machine not beyond so many environment steps."""
        end = time.monotonic() + seconds
        self.until(
            f"{seconds} s",
            lambda: time.monotonic() >= end or self.look().environment_steps >= steps,
        )

    def look(self) -> Totals:
        """The header as it is now."""
        totals = header.read(RunFolder(self.path).header)
        if not self.steps or self.steps[-1] != totals.environment_steps:
            self.steps.append(totals.environment_steps)
        return totals

    def kill(self) -> Kill:
        """Kills the learner with -9, wherever it is, and sees what it left."""
        os.kill(self._learner.pid, signal.SIGKILL)
        self._life.close()
        folder = RunFolder(self.path)
        assert not folder.is_finished, "it was over before it was killed"
        kill = Kill(
            self.look(),
            history.read_tables(folder.path),
            len(list(folder.checkpoints.glob("generation-*"))),
        )
        self.violations += history.check_acknowledged(self.pushes, kill.totals)
        if self.kills:
            self.violations += history.check_restart(self.kills[-1].tables, kill.tables)
        self.kills.append(kill)
        return kill

    def resume(self, *flags: str) -> None:
        """Starts it again on the address that its samplers know."""
        self._start(["--resume", str(self.path), *flags])

    def finish(self) -> Totals:
        """Waits until everything is over, checks what holds of any run, answers the last totals."""
        for sampler in self._samplers:
            assert sampler.wait(processes.PATIENCE_SECONDS) == 0
        assert self._learner.wait(processes.PATIENCE_SECONDS) == 0, self._log().read_text()
        totals, tables = self.look(), history.read_tables(self.path)
        self.violations += history.check_restart(self.kills[-1].tables, tables)
        self.violations += history.check_versions(tables, self.records)
        for steps in (self.steps, [steps for _, steps in tables.metrics]):
            self.violations += history.check_budget(steps, self._budget)
        result = json.loads(RunFolder(self.path).result.read_text())
        assert result["status"] == "finished"
        assert result["environment_steps"] == totals.environment_steps == self._budget
        assert totals.restarts == len(self.kills)
        return totals

    def _start(self, arguments: Sequence[str]) -> None:
        self._lives += 1
        self._began = time.monotonic()
        command = processes.wiserl("learner", *arguments, "--port", str(self._port))
        self._learner = self._life.enter_context(processes.process(command, self._log()))
        starting = f"process {self._lives} of the learner"
        processes.until(starting, lambda: self._lives_on() and self._has_begun())

    def _has_begun(self) -> bool:
        """Whether this process has the run's header open, and the run could be resumed."""
        if not list(self.runs.glob("*/*/*/config.yaml")):
            return False
        return self.look().restarts == len(self.kills)

    def _lives_on(self) -> bool:
        assert self._learner.poll() is None, f"the learner ended: {self._log().read_text()}"
        return True

    def _log(self) -> Path:
        return self._folder / f"learner-{self._lives}.log"

    def _record(self, number: int) -> Path:
        return self._folder / f"sampler-{number}.jsonl"

    def _sampler(self, number: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        script = Path(__file__).with_name("recorded_sampler.py")
        command = [
            *(sys.executable, str(script), str(self._record(number))),
            *("--learner", f"127.0.0.1:{self._port}", "--allow-module", "counting_env"),
            *("--workers", "1", "--envs-per-worker", str(SLOTS)),
        ]
        return processes.process(command, self._folder / f"sampler-{number}.log")


def kill_at_random(run: Run, draw: random.Random, steps: Sequence[int]) -> None:
    """Kills and resumes a run: once at each of these step counts, or somewhat later."""
    for count in steps:
        run.until_new_steps()
        run.until_steps(count)
        time.sleep(draw.uniform(0.0, 0.05))
        run.kill()
        run.resume()
