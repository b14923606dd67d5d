"""Whole runs in one process, for tests of everything but the processes."""

from __future__ import annotations

ONE_PROCESS = {"in_process": True, "workers": 1, "threads": 1}
ONE_PROCESS |= {"eval_points": 0, "final_eval_episodes": 1}
"""Settings of `wiserl.train`: nothing on the way but the steps, one episode at the end."""
