"""Which run a person means: a folder of runs stands for the newest of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from common.errors import WiseRLError
from learner.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

_DEEPEST = 3
"""From `runs` to a run: environment, algorithm, time and seed."""

POLICY, SETTINGS = "policy.json", "config.yaml"
"""What a run must have: to be played, to be gone on with."""


def meant(path: Path, having: str) -> Path:
    """`path` where it is a run's folder or holds none, else the newest run up to three below it.

    Args:
        path: A run's folder, or one above runs.
        having: The file that the run must have; the newest is the one whose file is.
    """
    if (path / having).exists():
        return path
    patterns = ["/".join(["*"] * depth) + f"/{having}" for depth in range(1, _DEEPEST + 1)]
    found = [file for pattern in patterns for file in path.glob(pattern)]
    latest = max(found, key=lambda file: file.stat().st_mtime, default=None)
    return path if latest is None else latest.parent


def tell(path: Path, run: Path) -> None:
    """Tells a person which run was taken, where they named a folder above it."""
    if run != path:
        print(f"wiserl: the newest run is {run}", file=sys.stderr)


def chosen(path: Path) -> RunFolder:
    """The run with a policy that `path` stands for.

    Raises:
        WiseRLError: There is none.
    """
    folder = RunFolder(meant(path, POLICY))
    if folder.policy.exists():
        return folder
    if not path.exists():
        raise WiseRLError(f"{path} does not exist; it holds no policy")
    raise WiseRLError(
        f"{path} holds no policy ({folder.policy.name} is missing); name the folder of a finished "
        "run, or one above it for the newest"
    )
