"""What stores of blocks share: room, checks of what comes in, what outlives a process."""

from __future__ import annotations

import abc
import dataclasses
import threading
from typing import TYPE_CHECKING

import numpy as np

from learner.experience.arrays import MemoryArrays
from learner.experience.block_ring import BlockRing
from learner.experience.on_policy import VALID
from learner.totals import RingCursor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from common.signature import ColumnSpec
    from learner.experience.arrays import Arrays
    from learner.experience.block_ring import Dump
    from learner.experience.on_policy import FragmentKey, Segment


@dataclasses.dataclass(frozen=True)
class BlockSettings:
    """What a store of blocks is made for.

    Attributes:
        capacity: Rows, rounded up to whole blocks.
        block_rows: T of every fragment.

    Raises:
        ValueError: A value is below 1.
    """

    capacity: int
    block_rows: int

    def __post_init__(self) -> None:
        """Refuses what cannot work."""
        self._check_positive("capacity", "block_rows")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) is not positive; give at least 1")

    @property
    def places(self) -> int:
        """The blocks that there is room for."""
        return -(-self.capacity // self.block_rows)


class BlockStore(abc.ABC):
    """Blocks come in; when it is full, the oldest block makes room.

    Safe to use from several threads: rows are copied in while others are drawn, and only the books
    are kept under a lock.

    Attributes:
        settings: As given.
        is_persistent: Whether the blocks outlive the process.
        evicted: Steps that made room for others.
        damaged: Blocks that the cursor names and the files did not hold whole. No row of them is
            left; another store on these files does not count them again.
    """

    settings: BlockSettings

    def __init__(
        self,
        specs: Sequence[ColumnSpec],
        settings: BlockSettings,
        *,
        seed: int,
        folder: Path | None,
        cursor: RingCursor,
    ) -> None:
        """Allocates room, or opens what an older process left, whose blocks are in no book yet.

        Args:
            specs: Of the columns of every segment.
            settings: What it is made for.
            seed: Of the draws; a store that begins at another cursor draws others.
            folder: Where the blocks live as files; None keeps them in memory.
            cursor: The blocks that files hold for certain.

        Raises:
            OSError: The files cannot be made, or are another store's.
        """
        self.settings = settings
        self._arrays: Arrays = MemoryArrays()
        if folder is not None:
            from learner.experience.ring_files import RingFiles

            self._arrays = RingFiles(folder)
        self.is_persistent = self._arrays.is_persistent
        self._ring = BlockRing(
            specs, places=settings.places, rows=settings.block_rows, arrays=self._arrays
        )
        self._random = np.random.default_rng([seed, cursor.written])
        self._written, self._resident = cursor.written, 0
        self.inserted = self.evicted = self.damaged = 0
        self._inserting, self._books = threading.Lock(), threading.Lock()

    @property
    def block_rows(self) -> int:
        """T of every fragment."""
        return self.settings.block_rows

    @property
    def cursor(self) -> RingCursor:
        """The blocks written and those still there."""
        with self._books:
            return RingCursor(self._written, self._resident)

    def make_room(self, blocks: int) -> RingCursor:
        """Evicts the blocks whose places the next `blocks` blocks take; what is left then."""
        with self._books:
            self._evict(self._resident + blocks - self.settings.places)
            return RingCursor(self._written, self._resident)

    def dump(self) -> Dump:
        """A copy of all resident rows, whether they can be drawn or not."""
        with self._inserting, self._books:
            return self._ring.dump(range(self._written - self._resident, self._written))

    def close(self) -> None:
        """Gives back the files; the store is not used again."""
        with self._inserting, self._books:
            self._arrays.close()

    def _fragments(self, segment: Segment, keys: Sequence[FragmentKey]) -> int:
        """How many fragments a segment has.

        Raises:
            ValueError: The segment has other rows, or keys are missing.
        """
        rows, blocks = segment.columns[VALID].shape
        if rows != self.block_rows or blocks != len(keys):
            raise ValueError(
                f"{rows} rows of {blocks} slots with {len(keys)} keys; a block has "
                f"{self.block_rows} rows and a key"
            )
        return int(blocks)

    def _empty_if_damaged(self, number: int) -> bool:
        """Whether a block of an older process is whole; one that is not has no valid row then."""
        whole = self._ring.is_whole(number)
        if not whole:
            self._ring.empty(number)
            self.damaged += 1
        return whole

    @abc.abstractmethod
    def _evict(self, blocks: int) -> None:
        """Takes the oldest blocks out of the books, under their lock."""
