"""How many bytes a second a sampler may send."""

from __future__ import annotations

BURST_SECONDS = 1.0
"""What may come at once after a pause, as a time at the full rate."""


class ByteQuota:
    """A token bucket that one message may overdraw; without a clock.

    Whatever comes is let in while anything is left, also more than is left: what it took too much
    flows in again before the next. So no message is too large, and in any t seconds a sampler
    brings at most `bytes_per_second` (t + `BURST_SECONDS`) and one message more.

    Args:
        bytes_per_second: In the long run.
    """

    def __init__(self, bytes_per_second: int) -> None:
        self.bytes_per_second = bytes_per_second
        self._most = self._left = bytes_per_second * BURST_SECONDS
        self._looked_at: float | None = None

    def charge(self, now: float, size_bytes: int) -> float:
        """Takes a message from what is left; answers 0.

        Else it came too early: answers after how many seconds it may come again, and takes nothing.
        """
        if self._looked_at is not None:
            passed = max(0.0, now - self._looked_at)
            self._left = min(self._most, self._left + passed * self.bytes_per_second)
        self._looked_at = now
        if self._left < 0:
            return -self._left / self.bytes_per_second
        self._left -= size_bytes
        return 0.0
