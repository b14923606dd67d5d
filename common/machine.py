"""What this process may use of its machine: cores and memory, as its control groups limit them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def usable_cores() -> int:
    """How many processes can be busy at once here: cores allowed, or the time of a container.

    At least 1. A container with a limit of 2.5 cores on a machine with 64 has 2.
    """
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.floor(quota)))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self")) -> float | None:
    """How many cores' time this process's control groups allow; None for no limit."""
    found = []
    for folder in _groups(root, proc, "cpu"):
        if text := file_text(folder / "cpu.max"):
            quota, _, period = text.partition(" ")
        else:
            quota = file_text(folder / "cpu.cfs_quota_us")
            period = file_text(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def memory_limit(
    root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self")
) -> int | None:
    """Bytes that this process's control groups allow; None for no limit."""
    names = ("memory.max", "memory.limit_in_bytes")
    texts = [file_text(folder / name) for folder in _groups(root, proc, "memory") for name in names]
    # Version 1 says "no limit" as the largest multiple of a page below 2^63.
    limits = [int(text) for text in texts if text.isdecimal() and int(text) < 2**62]
    return min(limits, default=None)


def _groups(root: Path, proc: Path, controller: str) -> Iterator[Path]:
    """The folders of a controller that limit this process, its own first and then those above."""
    for line in file_text(proc / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        inside = Path(path.lstrip("/"))
        yield from (base / one for one in (inside, *inside.parents))


def file_text(path: Path) -> str:
    """What a file holds, without the space around it; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
