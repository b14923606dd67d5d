"""What the learner's unit tests share."""

from __future__ import annotations

import sys
import types

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """As in training: where cores are shared, the threads of small operations only wait."""
    torch.set_num_threads(1)


@pytest.fixture
def own_module(monkeypatch):
    """A module of a user's own, importable as `own_module`."""
    module = types.ModuleType("own_module")
    monkeypatch.setitem(sys.modules, "own_module", module)
    return module
