"""The arrays of a replay ring as memory-mapped files, which outlive a killed process.

Every array is a `.npy` file, which `numpy.load(path, mmap_mode="r")` reads. Of each place
`seals.npy` tells which block was written there whole (its number plus one) and a CRC-32 over the
number and all that belongs to the block. It has no say in which blocks are there: that is
`Totals.ring`, and the order of stores keeps it true at every instant:

1. commit totals whose cursor no longer names the blocks that will be written over;
2. write the blocks, then seal them;
3. commit totals whose cursor names them, with the sequence of their push; then acknowledge it.

A process that is killed before 3 leaves blocks that nothing names, and their push is made again;
one that is killed after 3 leaves blocks that were whole before they were named. What a killed
process stored stays in the page cache, and no store is seen without those before it, so nothing is
synced. After a loss of power blocks may be missing or damaged; their seals show it.
"""

from __future__ import annotations

import math
import os
import shutil
import urllib.parse
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import WiseRLError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

_SEALS = "seals"
_SUFFIX = ".npy"
_UNFINISHED = ".part"
_LONGEST_NAME = 200
"""Of the 255 bytes that file systems allow."""


class RingFilesError(WiseRLError, OSError):
    """Files that cannot be made, or that are not this ring's."""


class RingFiles:
    """Arrays in the files of a folder; see `Arrays`.

    One process at a time, which the header of its run takes care of.

    Args:
        folder: Made where it is missing.

    Raises:
        RingFilesError: It cannot be made or written to.
    """

    is_persistent = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seals: NDArray[np.int64] | None = None
        self._places = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for unfinished in folder.glob(f"*{_UNFINISHED}"):  # of a process that was killed
                unfinished.unlink()
        except OSError as error:
            raise RingFilesError(
                f"the replay ring's folder {folder} cannot be used: {error.strerror}; give the run "
                "a folder that can be written to"
            ) from None
        self._is_filled = self._path(_SEALS).exists()

    def column(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, sparse: bool = False
    ) -> NDArray[Any]:
        """See `Arrays`.

        The file has all of its room from the beginning, also a sparse one: a store into a mapping
        that finds the disk full kills the process.

        Raises:
            RingFilesError: No room, or the file is missing, damaged or of another dtype or shape.
        """
        self._places = shape[0]
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        path = self._path(name)
        if not path.exists():
            # The first block is sealed when all but the sparse ones are there.
            if self._is_filled and not sparse:
                raise self._other(path, "is missing")
            self._create(path, shape, dtype)
        return self._open(path, shape, dtype)

    def seal(self, place: int, number: int, parts: Iterable[NDArray[Any]]) -> None:
        """See `Arrays`; the parts are contiguous.

        Raises:
            BufferError: One of them is not.
            RingFilesError: No room for the seals, when the first block is sealed.
        """
        if self._seals is None:
            self._seals = self.column(_SEALS, (self._places, 2), np.dtype(np.int64), sparse=True)
        self._seals[place] = (number + 1, _checksum(number, parts))

    def is_whole(self, place: int, number: int, parts: Iterable[NDArray[Any]]) -> bool:
        """See `Arrays`."""
        if self._seals is None:
            if not self._is_filled:
                return False
            self._seals = self._open(self._path(_SEALS), (self._places, 2), np.dtype(np.int64))
        sealed, checksum = self._seals[place].tolist()
        return bool(sealed == number + 1 and checksum == _checksum(number, parts))

    def close(self) -> None:
        """See `Arrays`; a file is unmapped when its array is no longer referred to."""
        self._seals = None

    def _path(self, name: str) -> Path:
        quoted = urllib.parse.quote(name, safe="")
        if len(quoted) > _LONGEST_NAME:
            quoted = f"{quoted[:_LONGEST_NAME]}-{zlib.crc32(name.encode()):08x}"
        return self._folder / f"{quoted}{_SUFFIX}"

    def _create(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Makes a file of zeros, whole or not at all."""
        beside = path.with_name(f"{path.name}{_UNFINISHED}")
        try:
            np.lib.format.open_memmap(beside, "w+", dtype, shape)
            with beside.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, beside.stat().st_size)
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            size = math.prod(shape) * dtype.itemsize
            raise RingFilesError(
                f"{path}: no room for {size} bytes of replay ({error.strerror}; "
                f"{shutil.disk_usage(self._folder).free} are free); lower buffer_size, make room, "
                "or set replay_storage to memory"
            ) from None

    def _open(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        try:
            # Read-only first: opened for writing, a file that was cut short is made longer.
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise self._other(path, "cannot be read") from None
        if found.shape != shape or found.dtype != dtype:
            raise self._other(
                path,
                f"holds {found.dtype} {list(found.shape)}, but this run's is {dtype} {list(shape)}",
            )
        array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r+", allow_pickle=False))
        return array

    def _other(self, path: Path, what: str) -> RingFilesError:
        return RingFilesError(
            f"{path} {what}: the environment or a setting of replay (buffer_size, segment_length, "
            "prioritised) is not what the files were made for, or they are damaged; resume with "
            f"what the run had, or remove {self._folder} to go on with an empty buffer"
        )


def _checksum(number: int, parts: Iterable[NDArray[Any]]) -> int:
    checksum = zlib.crc32(number.to_bytes(8, "little"))
    for part in parts:
        checksum = zlib.crc32(part, checksum)  # type: ignore[arg-type]  # it is a buffer
    return checksum
