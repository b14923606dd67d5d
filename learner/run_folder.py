"""The folder of one run: what lies where in it.

`runs/<environment>/<algorithm>/<time>-s<seed>/` holds:

- `config.yaml`: every setting as it was resolved; `--config` takes it back
- `provenance.json`: command, commit, versions and machine
- `metrics.csv`: one row a training round
- `episodes.csv`: one row a training episode
- `evaluations.csv`: one row an evaluation, in the order of versions
- `events.out.tfevents*`: the same curves for TensorBoard
- `run_id`: what samplers know the run by
- `header.bin`: counters that outlive the learner's process: steps, sequences, versions, losses
- `checkpoints/`: the newest generations of the training state
- `replay/`: the replay buffer, where it lives in files
- `policy.onnx`: the newest policy saved, and `policy.json`, which says how to feed it
- `curve.png`: return against environment steps
- `result.json`: how the run ended
- `sampler-N.log`: what local samplers wrote to stderr
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import InvalidFieldError, WiseRLError
from learner import files, provenance

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_TOLD = "samplers_told"
"""In `result.json`: whether samplers know that the run is over."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The paths in a run's folder."""

    path: Path

    @classmethod
    def create(
        cls, root: Path, *, environment: str, algorithm: str, seed: int, at: dt.datetime
    ) -> RunFolder:
        """Makes a new folder under `root`, never one that is there already.

        Args:
            root: Usually `runs`.
            environment: The training environment's id.
            algorithm: The algorithm's name.
            seed: The run's.
            at: When the run started, local time.

        Raises:
            InvalidFieldError: The folder cannot be made there.
        """
        parent = root / _as_name(environment) / _as_name(algorithm)
        try:
            return cls(_new_folder(parent, f"{at:%Y%m%d-%H%M%S}-s{seed}"))
        except OSError as error:
            raise InvalidFieldError(
                "runs", f"no folder can be made in {root} ({error}); name another with --runs"
            ) from None

    @property
    def config(self) -> Path:
        """The settings."""
        return self.path / "config.yaml"

    @property
    def provenance(self) -> Path:
        """Where the run came from."""
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        """One row a training round."""
        return self.path / "metrics.csv"

    @property
    def episodes(self) -> Path:
        """One row a training episode."""
        return self.path / "episodes.csv"

    @property
    def evaluations(self) -> Path:
        """One row an evaluation."""
        return self.path / "evaluations.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def identity(self) -> Path:
        """The run's id, by which samplers know it again after a restart."""
        return self.path / "run_id"

    @property
    def header(self) -> Path:
        """The counters that outlive the process."""
        return self.path / "header.bin"

    @property
    def replay(self) -> Path:
        """The folder of a replay buffer that lives in files."""
        return self.path / "replay"

    @property
    def policy_model(self) -> Path:
        """The newest policy's graph."""
        return self.path / "policy.onnx"

    @property
    def policy(self) -> Path:
        """What the newest policy is and how it is fed."""
        return self.path / "policy.json"

    @property
    def curve(self) -> Path:
        """The picture."""
        return self.path / "curve.png"

    @property
    def result(self) -> Path:
        """How the run ended."""
        return self.path / "result.json"

    @property
    def is_finished(self) -> bool:
        """Whether its last process did all that there was to do."""
        return self._ended().get("status") == "finished"

    @property
    def owes_farewells(self) -> bool:
        """Whether it is finished, and its last process ended before its samplers knew."""
        return self.is_finished and self._ended().get(_TOLD) is False

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes how the run ended; that its samplers know is noted when they do."""
        files.replace(self.result, files.json_bytes({**result, _TOLD: False}))

    def note_farewells(self) -> None:
        """Notes that every sampler that was there knows that the run is over."""
        files.replace(self.result, files.json_bytes({**self._ended(), _TOLD: True}))

    def _ended(self) -> dict[str, Any]:
        """What `write_result` wrote; nothing where it did not."""
        try:
            found = json.loads(self.result.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def discard(self, root: Path) -> None:
        """Removes the folder, and those above it up to `root` where it was the only one in them."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in self.path.parents:
            if parent == root.parent:
                return
            try:
                parent.rmdir()
            except OSError:  # others are in it, or it is where a volume is mounted
                return

    def sampler_log(self, number: int) -> Path:
        """What the local sampler of that number wrote to stderr."""
        return self.path / f"sampler-{number}.log"

    def write_identity(self, run_id: str) -> None:
        """Gives the run its id, for good."""
        files.replace(self.identity, f"{run_id}\n".encode())

    def read_identity(self) -> str:
        """The run's id.

        Raises:
            WiseRLError: The folder is not that of a run that can go on.
        """
        try:
            return self.identity.read_text(encoding="utf-8").strip()
        except OSError:
            raise WiseRLError(
                f"{self.path} is no run that can be resumed: {self.identity.name} cannot be read; "
                "name a run folder such as runs/CartPole-v1/ppo/<time>-s0"
            ) from None

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Writes the resolved settings: plain mappings, sequences, texts and numbers."""
        text = yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True)
        files.replace(self.config, text.encode())

    def write_provenance(self, command: Sequence[str], *, started: dt.datetime) -> None:
        """Writes what made this run, so that its numbers can be traced and made again."""
        files.replace(self.provenance, files.json_bytes(provenance.gather(command, started)))


def _new_folder(parent: Path, name: str) -> Path:
    """A folder of that name, or of the first number behind it that is free."""
    parent.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        path = parent / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            path.mkdir()
        except FileExistsError:
            attempt += 1
        else:
            return path


def _as_name(text: str) -> str:
    """`text` as one folder's name: `ALE/Pong-v5` becomes `ALE-Pong-v5`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-") or "unnamed"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
