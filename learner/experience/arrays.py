"""Where the arrays of a replay ring lie: in memory here, in files in `ring_files`."""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Arrays(Protocol):
    """Gives a ring its arrays, and remembers which of its blocks are whole.

    The first axis of every array counts the ring's places.

    Attributes:
        is_persistent: Whether the arrays outlive the process.
    """

    is_persistent: bool

    def column(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, sparse: bool = False
    ) -> NDArray[Any]:
        """An array to read and write, as it was left where it is persistent, else zeros.

        Args:
            name: Unique among the ring's arrays; any text.
            shape: With the number of places first.
            dtype: In native byte order.
            sparse: Most of it is never written, and should take no room until it is.

        Raises:
            OSError: No room on the disk.
            MemoryError: No room in memory.
        """
        ...

    def seal(self, place: int, number: int, parts: Iterable[NDArray[Any]]) -> None:
        """The block of this number lies whole at a place.

        Args:
            place: Where.
            number: The number of the block; those of a place only grow.
            parts: All that belongs to it, in an order that never changes.
        """
        ...

    def is_whole(self, place: int, number: int, parts: Iterable[NDArray[Any]]) -> bool:
        """Whether exactly this block was sealed at a place, and is still as it was then."""
        ...

    def close(self) -> None:
        """Gives back what is held; the arrays are not used again."""
        ...


class MemoryArrays:
    """Arrays that end with the process."""

    is_persistent = False

    def column(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, sparse: bool = False
    ) -> NDArray[Any]:
        """See `Arrays`; the kernel finds room for a page when it is first written."""
        size = math.prod(shape) * dtype.itemsize
        if not sparse or not size:
            return np.zeros(shape, dtype)
        # NumPy asks for huge pages, of which a single row that is written takes a whole one.
        try:
            room = mmap.mmap(-1, size)
        except OSError as error:
            raise MemoryError(f"{name}: no room for {size} bytes") from error
        return np.frombuffer(room, dtype).reshape(shape)

    def seal(self, place: int, number: int, parts: Iterable[NDArray[Any]]) -> None:
        """Nobody will ask."""

    def is_whole(
        self,
        place: int,  # noqa: ARG002 - the protocol's
        number: int,  # noqa: ARG002
        parts: Iterable[NDArray[Any]],  # noqa: ARG002
    ) -> bool:
        """False: nothing is there from before."""
        return False

    def close(self) -> None:
        """Nothing to give back."""
