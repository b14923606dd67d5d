"""One run of the learning benchmark, stamped with its configuration and the hash of the code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from learner import files, tables
from wiserl.bench import queue

if TYPE_CHECKING:
    from typing import Self

    from wiserl.bench.tasks import Unit

_SOURCE = Path(__file__).resolve().parents[2]
_PACKAGES = ("common", "learner", "sampler", "protos")


@dataclasses.dataclass(frozen=True)
class Training:
    """Trains units by `wiserl train`; what one sitting does not finish goes on in the next.

    Attributes:
        unfinished: Where the run folders of units lie until they are finished.
    """

    unfinished: Path

    def __call__(self, unit: Unit, seconds: float) -> dict[str, Any] | None:
        """The result of one unit; None where the time was not enough.

        Raises:
            WiseRLError: The run failed; its output is in the message.
        """
        task, folder = unit.task, self.unfinished / Path(unit.file_name).stem
        command = [
            *("wiserl", "train", task.algorithm, "--env", task.env),
            *("--seed", str(unit.seed), "--total-steps", str(task.total_steps)),
            *("--final-eval-episodes", str(task.episodes), "--runs", "RUNS", "--quiet"),
        ]
        run = _resumable(folder)
        if run is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            arguments = [str(folder) if part == "RUNS" else part for part in command[1:]]
        else:
            arguments = ["train", "--resume", str(run), "--quiet"]
        sittings = _Sittings.another(folder)
        # Where its time is over the run's own samplers end with it: they watch their parent.
        if queue.run([sys.executable, "-m", "wiserl.cli", *arguments], seconds) is None:
            return None
        (result_file,) = folder.glob(f"{_RUNS}/result.json")
        record = _record(unit, command, result_file.parent, sittings.finished(folder))
        shutil.rmtree(folder)
        return record


_RUNS = "*/*/*"
"""Where runs lie in a folder of runs: environment, algorithm, time and seed."""


def _resumable(folder: Path) -> Path | None:
    """The run that an earlier sitting left, if this code made it and it has something to keep."""
    for checkpoint in folder.glob(f"{_RUNS}/checkpoints/generation-*"):
        if _Sittings.read(folder).code_sha256 == code_hash():
            return checkpoint.parents[1]
    return None


@dataclasses.dataclass(frozen=True)
class _Sittings:
    """What is known of the sittings of a unit; the time of its file is when the last one began.

    Attributes:
        code_sha256: Of the code that trains.
        seconds: Those that all sittings before the last one took, until they last wrote a row.
        count: How many there were.
    """

    code_sha256: str
    seconds: float = 0.0
    count: int = 0

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What the folder says; of no code where it says nothing."""
        path = folder / "sittings.json"
        return cls(**json.loads(path.read_text())) if path.exists() else cls("")

    @classmethod
    def another(cls, folder: Path) -> Self:
        """Notes that a sitting begins."""
        before, path = cls.read(folder), folder / "sittings.json"
        now = cls(code_hash(), before.seconds + before.last(folder), before.count + 1)
        files.replace(path, files.json_bytes(dataclasses.asdict(now)))
        return now

    def last(self, folder: Path) -> float:
        """Seconds of the last sitting."""
        wrote = [path.stat().st_mtime for path in folder.glob(f"{_RUNS}/*")]
        began = (folder / "sittings.json").stat().st_mtime if self.count else math.inf
        return max(0.0, max(wrote, default=0.0) - began)

    def finished(self, folder: Path) -> dict[str, float]:
        """What is recorded of them."""
        return {
            "wall_seconds": round(self.seconds + self.last(folder), 2),
            "sittings": self.count,
        }


def _record(
    unit: Unit, command: list[str], run: Path, sittings: dict[str, float]
) -> dict[str, Any]:
    provenance = json.loads((run / "provenance.json").read_text())
    result = json.loads((run / "result.json").read_text())
    return {
        "task": unit.task.name,
        "algorithm": unit.task.algorithm,
        "env": unit.task.env,
        "seed": unit.seed,
        "score": result["final_evaluation"]["return_mean"],
        "environment_steps": result["environment_steps"],
        **sittings,
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
