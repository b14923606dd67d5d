"""The queue of learning runs: a unit is one (task, seed); a finished unit is one data file.

Units that have a file are skipped, so that the queue can be stopped at any time and goes on later,
also with other code: each file is stamped with the configuration and the hash of the code that made
it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import WiseRLError
from learner import files, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from wiserl.bench.tasks import Unit

_SOURCE = Path(__file__).resolve().parents[2]
_PACKAGES = ("common", "learner", "sampler", "protos")


@dataclasses.dataclass(frozen=True)
class Queue:
    """Runs units one after the other and keeps their results under `folder`.

    Attributes:
        folder: Where the data files lie.
    """

    folder: Path

    def path(self, unit: Unit) -> Path:
        """Where the unit's result lies, or will."""
        return self.folder / unit.file_name

    def missing(self, units: list[Unit]) -> list[Unit]:
        """The units without a result, in their order."""
        return [unit for unit in units if not self.path(unit).exists()]

    def work(self, units: list[Unit], *, minutes: float, report: Callable[[str], None]) -> int:
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
            result = self._run(unit, left)
            if result is None:
                report(f"{unit.task.name} seed {unit.seed}: out of time, nothing kept")
                break
            self.folder.mkdir(parents=True, exist_ok=True)
            files.replace(self.path(unit), files.json_bytes(result))
            finished += 1
            score, seconds = result["score"], result["wall_seconds"]
            report(f"{unit.task.name} seed {unit.seed}: {score:.1f} in {seconds:.0f} s")
        return finished

    def _run(self, unit: Unit, seconds: float) -> dict[str, Any] | None:
        """The result of one unit, None where the time was not enough."""
        task = unit.task
        with tempfile.TemporaryDirectory(prefix="wiserl-bench-") as folder:
            command = [
                *("wiserl", "train", task.algorithm, "--env", task.env),
                *("--seed", str(unit.seed), "--total-steps", str(task.total_steps)),
                *("--final-eval-episodes", str(task.episodes), "--runs", folder, "--quiet"),
            ]
            start = time.monotonic()
            try:
                subprocess.run(  # noqa: S603 - our own command
                    [sys.executable, "-m", "wiserl.cli", *command[1:]],
                    check=True,
                    capture_output=True,
                    text=True,
                    timeout=None if math.isinf(seconds) else seconds,
                )
            except subprocess.TimeoutExpired:
                return None  # the run's own samplers end with it: they watch their parent
            except subprocess.CalledProcessError as error:
                raise WiseRLError(f"{' '.join(command)} failed:\n{error.stderr}") from None
            wall = time.monotonic() - start
            shown = [("RUNS" if part == folder else part) for part in command]
            (result_file,) = Path(folder).glob("*/*/*/result.json")
            return _record(unit, shown, result_file.parent, wall)


def _record(unit: Unit, command: list[str], run: Path, wall_seconds: float) -> dict[str, Any]:
    provenance = json.loads((run / "provenance.json").read_text())
    result = json.loads((run / "result.json").read_text())
    return {
        "task": unit.task.name,
        "algorithm": unit.task.algorithm,
        "env": unit.task.env,
        "seed": unit.seed,
        "score": result["final_evaluation"]["return_mean"],
        "environment_steps": result["environment_steps"],
        "wall_seconds": round(wall_seconds, 2),
        "result": result,
        "curve": _curve(run / "metrics.csv"),
        "command": " ".join(command),
        "code_sha256": code_hash(),
        "configuration": yaml.safe_load((run / "config.yaml").read_text()),
        "provenance": {key: provenance[key] for key in ("git", "versions", "machine", "started")},
    }


_CURVE_POINTS = 200


def _curve(metrics: Path) -> dict[str, list[float]]:
    """The training curve, thinned: mean return of the last 100 episodes by environment steps."""
    columns = tables.read(metrics)
    points = [
        (int(step), round(float(value), 3))
        for step, value in zip(columns["global_step"], columns["rollout/ep_rew_mean"], strict=True)
        if value
    ]
    stride = max(1, -(-len(points) // _CURVE_POINTS))
    kept = points[::stride]
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    return {
        "environment_steps": [step for step, _ in kept],
        "ep_rew_mean": [value for _, value in kept],
    }


def code_hash() -> str:
    """SHA-256 over the sources that bear on what is learned: paths and contents, in order."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((_SOURCE / package).rglob("*")):
            if path.suffix in {".py", ".yaml", ".proto"}:
                digest.update(str(path.relative_to(_SOURCE)).encode() + b"\0")
                digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
