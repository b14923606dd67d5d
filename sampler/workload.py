"""What a worker has done, in shared memory: counters that a watcher reads while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

SIZE_BYTES = 64

_COUNTERS, _SECONDS = 2, 3


class Workload:
    """A worker's counters over shared memory; aligned words, written by the worker alone.

    Args:
        buffer: `SIZE_BYTES` of zeros.

    Attributes:
        counters: `[0]` rows rolled, in training and evaluation; `[1]` any other sign of life.
    """

    def __init__(self, buffer: bytearray | mmap) -> None:
        view = memoryview(buffer)
        self.counters = view[: 8 * _COUNTERS].cast("Q")
        self._seconds = view[8 * _COUNTERS : 8 * (_COUNTERS + _SECONDS)].cast("d")

    @property
    def rows(self) -> int:
        """Rows rolled."""
        return self.counters[0]

    @property
    def seconds(self) -> tuple[float, float, float]:
        """What policy, environments and waiting for work took."""
        policy, environment, idle = self._seconds
        return policy, environment, idle

    def beat(self) -> None:
        """Shows that the worker lives, where it does nothing that counts."""
        self.counters[1] += 1

    def add_seconds(
        self, *, policy: float = 0.0, environment: float = 0.0, idle: float = 0.0
    ) -> None:
        """Adds to the times."""
        for place, spent in enumerate((policy, environment, idle)):
            self._seconds[place] += spent
