"""Which run a person means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import WiseRLError
from learner.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

_DEEPEST = 3
"""From `runs` to a run: environment, algorithm, time and seed."""


def chosen(path: Path) -> RunFolder:
    """The run whose folder `path` is.

    Raises:
        WiseRLError: It is no run's folder; the newest run with a policy below it is named.
    """
    folder = RunFolder(path)
    if folder.policy.exists():
        return folder
    if not path.exists():
        raise WiseRLError(f"{path} does not exist; it holds no policy")
    below = newest(path)
    remedy = f"the newest run below it is {below}" if below else "name the folder of a finished run"
    raise WiseRLError(f"{path} holds no policy ({folder.policy.name} is missing); {remedy}")


def newest(path: Path) -> Path | None:
    """The run with a policy that was saved last, at most three folders below; None for none."""
    patterns = ["/".join(["*"] * depth) + "/policy.json" for depth in range(1, _DEEPEST + 1)]
    found = [policy for pattern in patterns for policy in path.glob(pattern)]
    latest = max(found, key=lambda policy: policy.stat().st_mtime, default=None)
    return None if latest is None else latest.parent
