"""Where this project keeps files of its own on a machine."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "WISERL_CACHE"


def graph_cache() -> Path:
    """The cache of exported graphs: in `WISERL_CACHE`, else in the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named) / "graphs"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "wiserl" / "graphs"
