"""One run of the learning benchmark, stamped with its configuration and the hash of the code."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from learner import tables
from wiserl.bench import queue

if TYPE_CHECKING:
    from wiserl.bench.tasks import Unit

_SOURCE = Path(__file__).resolve().parents[2]
_PACKAGES = ("common", "learner", "sampler", "protos")


def train(unit: Unit, seconds: float) -> dict[str, Any] | None:
    """The result of one unit, trained by `wiserl train`; None where the time was not enough.

    Raises:
        WiseRLError: The run failed; its output is in the message.
    """
    task = unit.task
    with tempfile.TemporaryDirectory(prefix="wiserl-bench-") as folder:
        command = [
            *("wiserl", "train", task.algorithm, "--env", task.env),
            *("--seed", str(unit.seed), "--total-steps", str(task.total_steps)),
            *("--final-eval-episodes", str(task.episodes), "--runs", folder, "--quiet"),
        ]
        start = time.monotonic()
        # Where its time is over the run's own samplers end with it: they watch their parent.
        done = queue.run([sys.executable, "-m", "wiserl.cli", *command[1:]], seconds)
        if done is None:
            return None
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
