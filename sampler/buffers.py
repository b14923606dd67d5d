"""Segment buffers between processes: anonymous shared files that cannot shrink under a reader."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def shared_file(name: str, size_bytes: int) -> int:
    """A new anonymous file of zeros; it ends with the last process that has it.

    Its size is sealed: a mapping whose file shrank would be a bus error in whoever reads it.

    Returns:
        Its descriptor, not inherited.
    """
    file = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(file, size_bytes)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
    return file


def mapped(file: int) -> mmap.mmap:
    """The file as memory; the descriptor is no longer needed after it."""
    return mmap.mmap(file, os.fstat(file).st_size)


class BufferShelf:
    """A worker's buffers: taken to roll a segment, put back when the supervisor has read it.

    New buffers replace all old ones; an old one that comes back late is forgotten.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._memory: dict[int, mmap.mmap] = {}
        self._free: list[int] = []

    def replace(self, memory: dict[int, mmap.mmap]) -> None:
        """Takes new buffers by their numbers."""
        with self._condition:
            self._memory = memory
            self._free = sorted(memory)
            self._condition.notify()

    def put_back(self, number: int) -> None:
        """Makes a buffer free again."""
        with self._condition:
            if number in self._memory and number not in self._free:
                self._free.append(number)
                self._condition.notify()

    def take(self, timeout_seconds: float) -> tuple[int, mmap.mmap] | None:
        """A free buffer and its number, or None where none came free in time."""
        with self._condition:
            if not self._condition.wait_for(lambda: bool(self._free), timeout_seconds):
                return None
            number = self._free.pop(0)
            return number, self._memory[number]
