"""What all tests share."""

from __future__ import annotations

import os
import sys

import hypothesis
import pytest

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
