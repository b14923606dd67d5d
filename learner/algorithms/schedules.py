"""Settings that change over the step budget."""

from __future__ import annotations

from typing import Literal

Schedule = Literal["linear", "constant"]


def scheduled(start: float, schedule: Schedule, progress: float) -> float:
    """A setting after this share of the step budget; `linear` is 0 at its end."""
    return start * (1.0 - progress) if schedule == "linear" else start
