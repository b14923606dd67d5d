"""What all tests share."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from pathlib import Path

# A deadline would be a timed assertion, and so would be a limit on how long examples take to draw.
# CI draws the same examples every time, so that a red run tells of the change under test; at a desk
# every run draws new ones.
UNTIMED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("desk", **UNTIMED, print_blob=True)
hypothesis.settings.register_profile("ci", **UNTIMED, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(autouse=True)
def _torch_draws_the_same():
    """What a test draws of torch's own generator is the same whatever tests ran before it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="module")
def own_graph_cache(tmp_path_factory):
    """Graphs exported by a module's runs are its own: the first run exports, the others reuse."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WISERL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def graph_cache(tmp_path_factory) -> Path:
    """Graphs exported once for all tests of a process: an export takes seconds."""
    return tmp_path_factory.mktemp("graphs")
