"""One run of the learning benchmark, stamped with its configuration and the hash of the code."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import WiseRLError
from learner import tables
from learner.run_folder import RunFolder
from wiserl.bench import queue
from wiserl.bench.sittings import RUN_FOLDERS, Sittings, alone_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wiserl.bench.tasks import Unit

_SOURCE = Path(__file__).resolve().parents[2]
_PACKAGES = ("common", "learner", "sampler", "protos")


@dataclasses.dataclass(frozen=True)
class Training:
    """Trains units by `wiserl train`; what one sitting does not finish goes on in the next.

    Attributes:
        unfinished: Where the run folders of units lie until their results are kept.
    """

    unfinished: Path

    @contextlib.contextmanager
    def __call__(self, unit: Unit, seconds: float) -> Iterator[dict[str, Any] | None]:
        """The result of one unit; None where the time was not enough.

        Raises:
            TakenError: Another queue is at it.
            WiseRLError: The run failed; its output is in the message.
        """
        folder, command = self.unfinished / Path(unit.file_name).stem, _command(unit)
        with alone_in(folder):
            run = _trained(folder, command, seconds)
            if run is None:
                yield None
                return
            yield _record(unit, run, Sittings.read(folder).finished(folder))
            shutil.rmtree(folder)


def _command(unit: Unit) -> list[str]:
    task = unit.task
    return [
        *("wiserl", "train", task.algorithm, "--env", task.env),
        *("--seed", str(unit.seed), "--total-steps", str(task.total_steps)),
        *("--final-eval-episodes", str(task.episodes), "--runs", "RUNS", "--quiet"),
    ]


def _trained(folder: Path, command: list[str], seconds: float) -> Path | None:
    """The folder of the finished run; None where the time was not enough."""
    run = _left(folder, command)
    if run is not None and RunFolder(run).is_finished:
        return run  # and the sitting ended before its result was kept
    if run is None:
        _empty(folder)
        arguments = [str(folder) if part == "RUNS" else part for part in command[1:]]
    else:
        arguments = ["train", "--resume", str(run), "--quiet"]
    Sittings.note_another(folder, " ".join(command), code_hash())
    try:
        # Where its time is over the run's own samplers end with it: they watch their parent.
        done = queue.run([sys.executable, "-m", "wiserl.cli", *arguments], seconds)
    except WiseRLError as error:
        remedy = f"\nremove {folder} to begin this run anew" if run is not None else ""
        raise WiseRLError(f"{error}{remedy}") from None
    return None if done is None else next(folder.glob(f"{RUN_FOLDERS}/result.json")).parent


def _left(folder: Path, command: list[str]) -> Path | None:
    """The run that an earlier sitting left, if the same would begin now and it has a checkpoint."""
    before = Sittings.read(folder)
    if (before.command, before.code_sha256) != (" ".join(command), code_hash()):
        return None
    checkpoints = folder.glob(f"{RUN_FOLDERS}/checkpoints/generation-*")
    return next((checkpoint.parents[1] for checkpoint in checkpoints), None)


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


def _record(unit: Unit, run: Path, sittings: dict[str, Any]) -> dict[str, Any]:
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
