"""What the learner's unit tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def graph_cache(tmp_path_factory) -> Path:
    """Graphs exported once for all tests of a process: an export takes seconds."""
    return tmp_path_factory.mktemp("graphs")
