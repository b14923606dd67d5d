"""Checkpoints: generations of the complete training state, each whole or not there at all.

A generation is a folder `generation-NNNNNNNN` with `tensors.safetensors`, `values.json` and
`manifest.json`, which holds size and SHA-256 of the other two and of itself. It is written into a
temporary folder, every file and the folder are synced, the folder gets its name by one rename, and
the parent is synced: a crash at any instant leaves the generations before it untouched. Nothing is
pickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors import torch as safetensors

from common.errors import WiseRLError
from common.logging import Logger
from learner import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

_log = Logger()

_NAME = re.compile(r"generation-(\d{8,})")
_TENSORS, _VALUES, _MANIFEST = "tensors.safetensors", "values.json", "manifest.json"
_FORMAT = 1


class DamagedCheckpointError(WiseRLError):
    """A generation whose files are not what was written."""


class NoCheckpointError(WiseRLError):
    """There is no generation that could be loaded."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A generation as it was loaded.

    Attributes:
        generation: Its number; later ones are greater.
        tensors: On the CPU, by name.
        values: Everything that is no tensor, as JSON has it.
    """

    generation: int
    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


class Checkpoints:
    """The generations in a folder.

    Args:
        folder: Made when the first one is saved.
        kept: How many to keep, at least 2.
    """

    def __init__(self, folder: Path, *, kept: int = 2) -> None:
        if kept < 2:
            raise ValueError(f"kept ({kept}) is below 2; a damaged checkpoint needs one before it")
        self._folder = folder
        self._kept = kept

    def generations(self) -> list[int]:
        """The numbers of the generations that are there, ascending, sound or not."""
        if not self._folder.is_dir():
            return []
        names = (_NAME.fullmatch(entry.name) for entry in self._folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def save(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> int:
        """Writes the next generation, drops those that are too many, and returns its number.

        Raises:
            OSError: No room, or an I/O error; the generations before it are untouched.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        generation = max(self.generations(), default=0) + 1
        temporary = self._folder / f".{_name(generation)}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            _write(temporary, generation, tensors, values)
            temporary.rename(self._folder / _name(generation))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        files.sync_folder(self._folder)
        self._drop_old()
        return generation

    def load(self) -> Checkpoint:
        """The newest sound generation; damaged ones are passed over with a warning.

        Raises:
            NoCheckpointError: There is none, or every one is damaged.
        """
        generations = self.generations()
        for generation in reversed(generations):
            try:
                return _read(self._folder / _name(generation), generation)
            except DamagedCheckpointError as error:
                _log.warning("checkpoint_damaged", generation=generation, reason=str(error))
        found = f"all of {len(generations)} are damaged" if generations else "there is none"
        raise NoCheckpointError(f"no checkpoint to load in {self._folder}: {found}")

    def _drop_old(self) -> None:
        for generation in self.generations()[: -self._kept]:
            shutil.rmtree(self._folder / _name(generation), ignore_errors=True)
        for unfinished in self._folder.glob(".generation-*"):  # of a process that was killed
            shutil.rmtree(unfinished, ignore_errors=True)


def _name(generation: int) -> str:
    return f"generation-{generation:08d}"


def _write(
    folder: Path, generation: int, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]
) -> None:
    contents = {
        # Copies: safetensors takes neither views nor tensors that share memory.
        _TENSORS: safetensors.save(
            {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        ),
        _VALUES: files.json_bytes(dict(values)),
    }
    for name, data in contents.items():
        files.write_synced(folder / name, data)
    files.write_synced(folder / _MANIFEST, _manifest(generation, contents))
    files.sync_folder(folder)


def _manifest(generation: int, contents: Mapping[str, bytes]) -> bytes:
    """The one way to write the manifest of these contents, its own checksum on the last line."""
    body = files.json_bytes(
        {
            "format": _FORMAT,
            "generation": generation,
            "files": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in contents.items()
            },
        }
    )
    return body + f"sha256 {hashlib.sha256(body).hexdigest()}\n".encode()


def _read(folder: Path, generation: int) -> Checkpoint:
    try:
        contents = {name: (folder / name).read_bytes() for name in (_TENSORS, _VALUES)}
        manifest = (folder / _MANIFEST).read_bytes()
    except OSError as error:
        raise DamagedCheckpointError(f"a file cannot be read: {error.strerror}") from None
    # The manifest is a function of the contents, so comparing it whole checks all three files.
    if manifest != _manifest(generation, contents):
        raise DamagedCheckpointError("the files are not those that its manifest was written for")
    try:
        return Checkpoint(
            generation, safetensors.load(contents[_TENSORS]), json.loads(contents[_VALUES])
        )
    except (SafetensorError, ValueError) as error:
        raise DamagedCheckpointError(f"a file does not parse: {error}") from None
