"""A file mapped into memory whose room on the disk is there before it is written to.

What a process stored in such a mapping is in the kernel's page cache, and another process that maps
the file finds it there however the first one ended. Only against a loss of power does it have to
be synced.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class MappedFile:
    """A file of fixed size, all of it mapped for reading and writing.

    Args:
        path: Where it lies.
        size: Its bytes, at least 1. The room on the disk is taken at once: a write into a mapping
            that finds the disk full kills the process.
        is_new: Whether the file is made here; else it is there and keeps its content.
        is_exclusive: Whether other processes that ask for the same are kept out until this one
            closes the file or ends.

    Raises:
        BlockingIOError: Another process has it exclusively.
        FileExistsError: `is_new`, but there is one.
        FileNotFoundError: Not `is_new`, and there is none.
        OSError: No room, or an I/O error.
    """

    def __init__(
        self, path: Path, size: int, *, is_new: bool = False, is_exclusive: bool = False
    ) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if is_new else 0)
        descriptor = os.open(path, flags, 0o644)
        try:
            if is_exclusive:
                # Of the open file, so the kernel lets go of it when the process is killed.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, size)
            self._map = mmap.mmap(descriptor, size)  # keeps a descriptor of its own
        except BaseException:
            if is_new:
                path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes from `offset`, fewer at the end."""
        return self._map[offset : offset + size]

    def write(self, offset: int, data: bytes) -> None:
        """Stores bytes, none beyond the end; any process reads them from now on."""
        self._map[offset : offset + len(data)] = data

    def sync(self) -> None:
        """Returns when everything stored is on the disk.

        Raises:
            OSError: The disk does not take it.
        """
        self._map.flush()

    def close(self) -> None:
        """Lets go of the file, and of its lock; the kernel writes what is not yet on the disk."""
        self._map.close()
