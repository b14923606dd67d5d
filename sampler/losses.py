"""How many workers may be lost in how short a time before it is the environment's fault."""

from __future__ import annotations

import collections

MAX_LOSSES = 5
PERIOD_SECONDS = 60.0


class LossLimit:
    """Counts losses; time is an argument."""

    def __init__(self) -> None:
        self._times: collections.deque[float] = collections.deque()

    def add(self, now: float) -> bool:
        """Counts a loss; whether that were `MAX_LOSSES` within `PERIOD_SECONDS`."""
        self._times.append(now)
        while now - self._times[0] > PERIOD_SECONDS:
            self._times.popleft()
        return len(self._times) >= MAX_LOSSES
