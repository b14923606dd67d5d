"""What the learner's unit tests share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """As in training: where cores are shared, the threads of small operations only wait."""
    torch.set_num_threads(1)
