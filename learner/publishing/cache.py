"""Exported graphs on disk, since an export takes seconds and a run has one structure.

A file's name says what its graph depends on: the modules, their code and tensors, the graph's
inputs and outputs, the spaces, and the versions of the libraries that made it. What is found is
proved again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from common.logging import Logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from learner.algorithms.behaviour import BehaviourPolicy

FORMAT = 1
"""Of what is stored; counted up when this package exports differently."""

_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")
_log = Logger()


def fingerprint(behaviour: BehaviourPolicy) -> str:
    """What names the graph of a policy in the cache."""
    digest = hashlib.sha256()
    for part in _parts(behaviour):
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\\0")
    return digest.hexdigest()


def read(folder: Path | None, name: str) -> bytes | None:
    """The graph of a name, if there is one."""
    if folder is None:
        return None
    try:
        return _path(folder, name).read_bytes()
    except OSError:
        return None


def write(folder: Path | None, name: str, model: bytes) -> None:
    """Stores a graph, whole or not at all; a folder that refuses costs time, nothing else."""
    if folder is None:
        return
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            file.write(model)
        temporary.replace(_path(folder, name))
    except OSError as error:
        _log.warning("graph_not_cached", folder=str(folder), reason=str(error))
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.onnx"


def _parts(behaviour: BehaviourPolicy) -> Iterator[str | bytes]:
    yield f"format {FORMAT}"
    for library in _LIBRARIES:
        yield f"{library} {importlib.metadata.version(library)}"
    yield behaviour.structure
    yield repr(behaviour)
    for tensor in (*behaviour.inputs, *behaviour.outputs):
        yield f"{tensor.name} {tensor.role} {tensor.dtype} {tensor.shape}"
    for name, value in behaviour.named_tensors().items():
        yield f"{name} {value.dtype} {tuple(value.shape)}"
    kept = behaviour.state_dict().keys()
    for name, value in behaviour.named_buffers():
        if name not in kept:
            # A constant in all but name: another structure where it differs.
            yield value.detach().cpu().numpy().tobytes()
    yield from _sources(behaviour)


def _sources(behaviour: BehaviourPolicy) -> Iterator[bytes]:
    """The files that the modules' classes are written in, torch's own left out."""
    classes = {base for module in behaviour.modules() for base in type(module).__mro__}
    classes = {each for each in classes if each is not nn.Module and not _is_torch(each)}
    names = sorted({each.__module__ for each in classes} - {"builtins", "abc", "typing"})
    for name in names:
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is not None:
            with contextlib.suppress(OSError):
                yield Path(path).read_bytes()


def _is_torch(each: type) -> bool:
    return each.__module__.split(".")[0] == "torch"
