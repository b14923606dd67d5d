"""Whole runs in one process that learn next to nothing, for tests of everything but learning."""

from __future__ import annotations

ONE_PROCESS = {"eval_points": 0, "final_eval_episodes": 1, "in_process": True, "threads": 1}
"""Settings of `wiserl.train`: nothing on the way but the steps, one episode at the end."""
