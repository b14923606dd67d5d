"""A sign of life: whatever must not stand still beats, and whoever asks looks how long ago."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Heartbeat:
    """When something was last seen to go on.

    Args:
        patience_seconds: How long it may be silent.
        clock: Seconds.
    """

    def __init__(
        self, patience_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        """Notes that it goes on."""
        self._last = self._clock()

    def silence(self, what: str) -> str:
        """Why it counts as dead; empty while it lives."""
        seconds = self._clock() - self._last
        return f"{what} for {seconds:.0f} s" if seconds > self._patience_seconds else ""
