"""Replay: transitions of the last so many rows, drawn with equal or with prioritised chances."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from common.signature import ColumnSpec, Extent, Role
from learner.experience.block_store import BlockSettings, BlockStore
from learner.experience.on_policy import VALID
from learner.experience.priorities import Priorities
from learner.experience.step_index import StepIndex
from learner.experience.steps import StepReader
from learner.experience.transitions import Transitions
from learner.totals import RingCursor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from learner.experience.columns import Columns
    from learner.experience.on_policy import FragmentKey, Segment
    from learner.experience.steps import Steps

_STOOD_FOR = frozenset(
    {
        Role.REWARD,
        Role.TERMINATED,
        Role.TRUNCATED,
        Role.IS_FIRST,
        Role.VALID,
        Role.EPISODE_END,
    }
)
"""Columns that a transition's return and discount stand for; they are not gathered."""

_FLOAT = np.dtype(np.float32)
_LARGEST = 2**31 - 1
_BLOCKS_AT_ONCE = 1024
"""Of an older process, whose windows are made again: a few MB of intermediate arrays."""


@dataclasses.dataclass(frozen=True)
class ReplaySettings(BlockSettings):
    """What a replay store is made for.

    Attributes:
        capacity: Rows, rounded up to whole blocks.
        block_rows: T of every fragment.
        gamma: Discount of a step, in [0, 1].
        n_step: Steps of a window.
        clip_rewards: Take the sign of a reward, before the n-step sum.
        priority_exponent: alpha of prioritised sampling, in [0, 1]; None samples uniformly.

    Raises:
        ValueError: A value is out of its range.
    """

    gamma: float
    n_step: int = 1
    clip_rewards: bool = False
    priority_exponent: float | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot work."""
        super().__post_init__()
        self._check_positive("n_step")
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma ({self.gamma}) is not in [0, 1]; 0.99 is usual")
        if self.priority_exponent is not None and not 0.0 <= self.priority_exponent <= 1.0:
            raise ValueError(
                f"priority_exponent ({self.priority_exponent}) is not in [0, 1]; "
                "0.6 is usual, None samples uniformly"
            )
        if self.places * (self.block_rows + 1) > _LARGEST:
            raise ValueError(
                f"capacity ({self.capacity}) is above what is counted in 32 bits; "
                f"give less than {_LARGEST // 2}"
            )


class ReplayStore(BlockStore):
    """Blocks come in, transitions are drawn; when it is full, the oldest block makes room.

    Valid rows only are drawn. Safe to use from several threads: rows are copied in while others
    are drawn, and only the books are kept under a lock.

    Attributes:
        settings: As given.
        is_persistent: Whether the blocks outlive the process.
        inserted: Valid rows ever inserted by this process or found in the files.
        evicted: Those of them that made room for others.
        damaged: Blocks that the cursor names and the files did not hold whole. No row of them is
            left; another store on these files does not count them again.
        discarded: 0: every valid row can be drawn.
    """

    settings: ReplaySettings
    discarded = 0

    def __init__(
        self,
        specs: Sequence[ColumnSpec],
        settings: ReplaySettings,
        *,
        seed: int,
        folder: Path | None = None,
        cursor: RingCursor = RingCursor(),  # noqa: B008 - it is frozen
    ) -> None:
        """Allocates room, or opens what an older process left.

        Args:
            specs: Of the columns of every segment.
            settings: What it is made for.
            seed: Of the draws; a store that begins at another cursor draws others.
            folder: Where the blocks live as files; None keeps them in memory.
            cursor: The blocks that files hold for certain.

        Raises:
            ValueError: The specs lack a column that windows are made of, or windows are of several
                steps of several agents.
            OSError: The files cannot be made, or are another store's.
        """
        self._reader = StepReader(
            specs,
            gamma=settings.gamma,
            n_step=settings.n_step,
            clip_rewards=settings.clip_rewards,
        )
        super().__init__(specs, settings, seed=seed, folder=folder, cursor=cursor)
        self._index = StepIndex(settings.places * settings.block_rows)
        self._steps = np.zeros(settings.places, np.int64)  # [places]: of each, those in the index
        self._priorities: Priorities | None = None
        self._kept: NDArray[np.float32] | None = None  # [places T]: priorities, where files are
        if settings.priority_exponent is not None:
            self._priorities = Priorities(self._index.capacity, settings.priority_exponent)
            if self.is_persistent:
                shape = (settings.places, settings.block_rows)
                self._kept = self._arrays.column("priorities", shape, _FLOAT).reshape(-1)
        self._here = [key for key in _gathered(specs, Extent.ROWS) if key.role not in _STOOD_FOR]
        self._there = _gathered(specs, Extent.ROWS_PLUS_ONE)
        self._restore(cursor)

    @property
    def size(self) -> int:
        """The valid rows that can be drawn now."""
        with self._books:
            return len(self._index)

    @property
    def bytes_when_full(self) -> int:
        """What the arrays take once every place is written; final observations come on top."""
        kept = 0 if self._kept is None else self._kept.nbytes
        tree = 0 if self._priorities is None else self._priorities.nbytes
        return self._ring.nbytes + self._index.nbytes + self._steps.nbytes + tree + kept

    def insert(self, segment: Segment, keys: Sequence[FragmentKey]) -> int:
        """Copies the B fragments of a segment in, each a block; makes room by itself.

        Args:
            segment: `block_rows` rows of B slots.
            keys: [B], of its fragments.

        Returns:
            The number of valid rows in them.

        Raises:
            ValueError: The segment has other rows, or keys are missing.
            OSError: Final observations came for the first time, and the disk has no room for them.
        """
        blocks = self._fragments(segment, keys)
        with self._inserting:
            skipped = max(0, blocks - self.settings.places)
            self.make_room(blocks - skipped)
            first = self._written + skipped
            self._ring.write(first, segment, keys, skipped)
            found = [
                self._reader.read(self._ring, places)
                for places in self._ring.runs(first, blocks - skipped)
            ]
            passed_over = int(np.count_nonzero(segment.columns[VALID][:, :skipped]))
            with self._books:
                self._written += skipped
                self.inserted += passed_over
                self.evicted += passed_over
                return passed_over + sum(self._publish(*each) for each in found)

    def sample(self, count: int, *, beta: float = 1.0) -> Transitions:
        """Draws transitions: each independently of the others, or in proportion to priorities.

        Args:
            count: M.
            beta: Exponent of the importance weights of prioritised sampling, in [0, 1].

        Raises:
            ValueError: There is no valid row.
        """
        if not self.size:
            # An insert that replaces all there was may be under way.
            with self._inserting:
                pass
        with self._books:
            size = len(self._index)
            if not size:
                raise ValueError("the replay store holds no valid row; insert before sampling")
            uniform = self._random.random(count)
            if self._priorities is None:
                numbers = self._index.first + (uniform * size).astype(np.int64)
                positions = numbers % self._index.capacity
                weights = np.ones(count, np.float32)
            else:
                positions, weights = self._priorities.draw(uniform, beta)
                numbers = self._index.numbers(positions)
            return self._gather(positions, numbers, weights)

    def update_priorities(self, batch: Transitions, priorities: NDArray[np.float32]) -> None:
        """Gives drawn rows new priorities; rows overwritten since are left alone.

        Uniform sampling has no priorities; nothing happens then.

        Args:
            batch: As it was drawn.
            priorities: [M], absolute temporal-difference errors.

        Raises:
            ValueError: One is negative, infinite or not a number.
        """
        if self._priorities is None:
            return
        with self._books:
            positions, there = batch.rows, batch.writes >= self._index.first
            if not there.all():
                positions, priorities = positions[there], priorities[there]
            self._priorities.change(positions, priorities)
            if self._kept is not None:
                self._kept[self._rows(self._index.take(positions).entries)] = priorities

    def _restore(self, cursor: RingCursor) -> None:
        """Takes the blocks that an older process left into the index, damaged ones excepted."""
        self._written -= cursor.resident
        for places in self._ring.runs(self._written, cursor.resident, _BLOCKS_AT_ONCE):
            numbers = range(self._written, self._written + places.stop - places.start)
            whole = np.array([self._empty_if_damaged(number) for number in numbers], np.bool_)
            counts, steps = self._reader.read(self._ring, places, whole)
            kept = None if self._kept is None else self._kept[self._rows(steps.entries)]
            begin = self._index.end
            self._publish(counts, steps)
            if self._priorities is not None and kept is not None:
                sound = np.flatnonzero(np.isfinite(kept) & (kept >= 0.0))
                positions = (begin + sound) % self._index.capacity
                self._priorities.change(positions, kept[sound])

    def _publish(self, counts: NDArray[np.int64], steps: Steps) -> int:
        """Enters written blocks into the books; returns how many steps they have."""
        start = self._ring.place(self._written)
        self._steps[start : start + len(counts)] = counts
        entered = self._index.append(steps)
        if self._priorities is not None:
            self._priorities.enter(entered)
            if self._kept is not None:
                self._kept[self._rows(steps.entries)] = self._priorities.highest
        self._written += len(counts)
        self._resident += len(counts)
        self.inserted += len(steps.entries)
        return len(steps.entries)

    def _evict(self, blocks: int) -> None:
        """Takes the oldest blocks out of the books."""
        blocks = min(blocks, self._resident)
        if blocks <= 0:
            return
        oldest = self._written - self._resident
        steps = int(sum(self._steps[run].sum() for run in self._ring.runs(oldest, blocks)))
        freed = self._index.drop(steps)
        if self._priorities is not None:
            self._priorities.leave(freed)
        self._resident -= blocks
        self.evicted += steps

    def _rows(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where entries of columns with one entry more than rows lie among those with rows."""
        return entries - entries // (self.settings.block_rows + 1)

    def _gather(
        self,
        positions: NDArray[np.int64],
        numbers: NDArray[np.int64],
        weights: NDArray[np.float32],
    ) -> Transitions:
        """Reads transitions together."""
        entries, following, returns, discounts = self._index.take(positions)
        rows = self._rows(entries)
        if self._reader.several:
            returns, discounts = self._reader.outcomes(self._ring, rows)
        columns: Columns = {key: self._ring.take(key, rows) for key in self._here}
        after: Columns = {}
        final = np.flatnonzero(following < 0) if self._ring.finals else following[:0]
        last = -1 - following[final]
        following[final] = last + last // self.settings.block_rows + 1
        for key in self._there:
            columns[key] = self._ring.take(key, entries)
            after[key] = self._ring.take(key, following)
            if final.size and key in self._ring.finals:
                after[key][final] = self._ring.take_finals(key, last)
        return Transitions(positions, numbers, columns, after, returns, discounts, weights)


def _gathered(specs: Sequence[ColumnSpec], extent: Extent) -> list[Any]:
    return [spec.key for spec in specs if spec.extent == extent]
