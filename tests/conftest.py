"""What all tests share."""

from __future__ import annotations

import os

import hypothesis

# A deadline would be a timed assertion. CI draws the same examples every time, so that a red run
# tells of the change under test; at a desk every run draws new ones.
hypothesis.settings.register_profile("desk", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")
