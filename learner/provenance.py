"""Where a run came from: the command, the source, the libraries and the machine."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

_LIBRARIES = (
    "wiserl",
    "torch",
    "numpy",
    "grpcio",
    "protobuf",
    "onnx",
    "onnxruntime",
    "gymnasium",
    "safetensors",
)


def gather(command: Sequence[str], started: dt.datetime) -> dict[str, Any]:
    """What made a run, so that its numbers can be traced and made again; plain JSON values.

    Args:
        command: What was called.
        started: When, local time.
    """
    return {
        "command": shlex.join(command),
        "started": started.isoformat(timespec="seconds"),
        "git": _git(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": _gpus(),
        },
    }


def _versions() -> dict[str, str | None]:
    import importlib.metadata

    found: dict[str, str | None] = {}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found


def _git() -> dict[str, Any] | None:
    """Commit of the source, and whether files differ from it; None outside a checkout."""
    source = Path(__file__).parent
    try:
        commit = _output(["git", "-C", str(source), "rev-parse", "HEAD"])
        changes = _output(["git", "-C", str(source), "status", "--porcelain"])
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.strip(), "dirty": bool(changes.strip())}


def _output(command: list[str]) -> str:
    return subprocess.run(  # noqa: S603 - fixed commands
        command, capture_output=True, text=True, check=True, timeout=10
    ).stdout


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor()


def _gpus() -> list[str]:
    # Never the reason to import torch: only where the learner has it anyhow.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
