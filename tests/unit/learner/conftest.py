"""What the learner's unit tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """As in training: where cores are shared, the threads of small operations only wait."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def graph_cache(tmp_path_factory) -> Path:
    """Graphs exported once for all tests of a process: an export takes seconds."""
    return tmp_path_factory.mktemp("graphs")
