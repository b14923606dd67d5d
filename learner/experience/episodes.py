"""Whole-episode replay: a ring of blocks, out of which complete episodes are drawn.

What learns with a memory, or mixes the values of agents over time, needs episodes from their first
row to their last. They arrive in fragments of T rows of a slot and stay where these are written:
an episode is the list of its rows' places. The fragments of an open episode are blocks of the ring
like all others, so that memory is bounded by the ring alone.

Rows that are missing between two fragments of a slot (a push that was lost or refused, a worker
that was replaced) end the open episode without its being drawn, ever: what is left of it is
counted as discarded, and the slot's next first row begins the next one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.signature import ColumnKey, Extent, Role
from learner.experience.block_store import BlockSettings, BlockStore
from learner.experience.on_policy import VALID
from learner.totals import RingCursor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from common.signature import ColumnSpec
    from learner.experience.columns import Columns
    from learner.experience.on_policy import FragmentKey, Segment

_IS_FIRST, _EPISODE_END = ColumnKey(Role.IS_FIRST), ColumnKey(Role.EPISODE_END)


@dataclasses.dataclass(frozen=True)
class EpisodeSettings(BlockSettings):
    """What a store of episodes is made for.

    Attributes:
        capacity: Rows, rounded up to whole blocks.
        block_rows: T of every fragment.
        longest: Steps of an episode at most.

    Raises:
        ValueError: A value is below 1, or there is no room for a whole episode.
    """

    longest: int

    def __post_init__(self) -> None:
        """Refuses what cannot work."""
        super().__post_init__()
        self._check_positive("longest")
        # An episode may begin with the last row of a block and end with the first of another one.
        needed = self.longest + 2 * self.block_rows
        if self.capacity < needed:
            raise ValueError(
                f"capacity ({self.capacity}) has no room for an episode of {self.longest} steps; "
                f"give at least {needed}, and that for every environment"
            )


@dataclasses.dataclass(frozen=True)
class Episodes:
    """M whole episodes, side by side, the first row of each in row 0.

    L is the length of the longest of them. What lies behind the end of a shorter one repeats its
    last row, and `mask` is false there.

    Attributes:
        columns: `[L, M, ...]`; of columns with one entry more than rows `[L + 1, M, ...]`, of which
            the entry behind an episode's last row is what its last step led to.
        mask: [L, M] bool, the steps that there were.
    """

    columns: Columns
    mask: NDArray[np.bool_]


class _Life(NamedTuple):
    """A slot's open episode: the number of the block that it begins in, and its rows so far."""

    incarnation: int
    next_row: int
    block: int
    rows: list[NDArray[np.int64]]

    @property
    def length(self) -> int:
        return sum(map(len, self.rows))


class EpisodeStore(BlockStore):
    """Blocks come in, whole episodes are drawn, all alike; the oldest block makes room.

    Safe to use from several threads: rows are copied in while others are drawn, and only the books
    are kept under a lock.

    Attributes:
        settings: As given.
        is_persistent: Whether the blocks outlive the process.
        inserted: Steps of complete episodes ever, of this process or found in the files.
        evicted: Those of them that made room for others.
        damaged: Blocks that the cursor names and the files did not hold whole.
        discarded: Valid rows of episodes that never became complete.
    """

    settings: EpisodeSettings

    def __init__(
        self,
        specs: Sequence[ColumnSpec],
        settings: EpisodeSettings,
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
            OSError: The files cannot be made, or are another store's.
        """
        super().__init__(specs, settings, seed=seed, folder=folder, cursor=cursor)
        self._here = [spec.key for spec in specs if spec.extent == Extent.ROWS]
        self._there = [spec.key for spec in specs if spec.extent == Extent.ROWS_PLUS_ONE]
        self._open: dict[tuple[int, int], _Life] = {}
        self._complete: list[NDArray[np.int64]] = []
        self._names: list[int] = []  # of the complete episodes, in their order
        self._order: dict[int, int] = {}  # where an episode of a name stands
        self._begun: dict[int, list[int]] = {}  # the episodes that begin in a block, by its number
        self._ended = 0
        self._size = self.discarded = 0
        self._restore(cursor)

    @property
    def size(self) -> int:
        """The steps of the episodes that can be drawn now."""
        with self._books:
            return self._size

    @property
    def episodes(self) -> int:
        """How many can be drawn now."""
        with self._books:
            return len(self._complete)

    def insert(self, segment: Segment, keys: Sequence[FragmentKey]) -> int:
        """Copies the B fragments of a segment in, each a block; makes room by itself.

        Args:
            segment: `block_rows` rows of B slots.
            keys: [B], of its fragments; those of a slot in the order of its life.

        Returns:
            The steps of the episodes that became complete by it.

        Raises:
            ValueError: The segment has other rows, keys are missing, or it has more fragments than
                there are places.
            OSError: Final observations came for the first time, and the disk has no room for them.
        """
        blocks = self._fragments(segment, keys)
        if blocks > self.settings.places:
            raise ValueError(
                f"{blocks} fragments at once exceed the {self.settings.places} places; raise "
                "capacity"
            )
        with self._inserting:
            self.make_room(blocks)
            self._ring.write(self._written, segment, keys)
            with self._books:
                return sum(self._enter() for _ in range(blocks))

    def sample(self, count: int, *, beta: float = 1.0) -> Episodes:
        """Draws episodes, all alike and each at most once; some twice where there are too few.

        Args:
            count: M.
            beta: Of no meaning where all are drawn alike.

        Raises:
            ValueError: There is none.
        """
        del beta
        with self._books:
            there = len(self._complete)
            if not there:
                raise ValueError("the store holds no complete episode; insert before sampling")
            chosen = self._random.choice(there, count, replace=there < count)
            return self._gather([self._complete[i] for i in chosen.tolist()])

    def update_priorities(self, batch: Episodes, priorities: NDArray[Any]) -> None:
        """All are drawn alike: nothing happens."""

    def _restore(self, cursor: RingCursor) -> None:
        """Takes up the blocks that an older process left; a damaged one is a gap."""
        self._written -= cursor.resident
        for number in range(self._written, self._written + cursor.resident):
            self._empty_if_damaged(number)
            self._enter()

    def _enter(self) -> int:
        """Enters the next written block into the books; returns the steps that it completed."""
        number, place = self._written, self._ring.place(self._written)
        self._written += 1
        self._resident += 1
        sampler, slot, incarnation, row = self._ring.keys[place].tolist()
        life = self._open.pop((sampler, slot), None)
        if life is not None and (life.incarnation, life.next_row) != (incarnation, row):
            self.discarded += life.length
            life = None
        valid = self._ring.columns[VALID][place]
        firsts = np.flatnonzero(self._ring.columns[_IS_FIRST][place] & valid)
        ends = np.flatnonzero(self._ring.columns[_EPISODE_END][place] & valid)
        length, start, completed = self._ring.rows, 0, 0
        while start < length:
            if life is None:
                following = firsts[firsts >= start]
                begin = int(following[0]) if following.size else length
                self.discarded += int(np.count_nonzero(valid[start:begin]))
                if begin == length:
                    break
                start, life = begin, _Life(incarnation, row + length, number, [])
            end = ends[ends >= start]
            stop = int(end[0]) + 1 if end.size else length
            life.rows.append(np.arange(start, stop) + place * length)
            if not valid[start:stop].all():
                # Beyond the step budget, or of a damaged block.
                self.discarded += life.length - int(np.count_nonzero(~valid[start:stop]))
                life = None
            elif end.size:
                completed += self._close(life)
                life = None
            start = stop
        if life is not None:
            self._open[sampler, slot] = life._replace(next_row=row + length)
        return completed

    def _close(self, life: _Life) -> int:
        """Lets a complete episode be drawn; returns its steps."""
        rows = np.concatenate(life.rows)
        name, self._ended = self._ended, self._ended + 1
        self._order[name] = len(self._complete)
        self._complete.append(rows)
        self._names.append(name)
        self._begun.setdefault(life.block, []).append(name)
        self.inserted += len(rows)
        self._size += len(rows)
        return len(rows)

    def _evict(self, blocks: int) -> None:
        """Takes the oldest blocks, and every episode that begins in one, out of the books."""
        for _ in range(min(blocks, self._resident)):
            oldest = self._written - self._resident
            for name in self._begun.pop(oldest, ()):
                self._drop(name)
            for address in [a for a, life in self._open.items() if life.block == oldest]:
                self.discarded += self._open.pop(address).length
            self._resident -= 1

    def _drop(self, name: int) -> None:
        """Takes an episode out; the last one stands in its place then."""
        place = self._order.pop(name)
        rows, last = self._complete[place], self._names[-1]
        self._complete[place], self._names[place] = self._complete[-1], last
        self._complete.pop()
        self._names.pop()
        if last != name:
            self._order[last] = place
        self.evicted += len(rows)
        self._size -= len(rows)

    def _gather(self, chosen: Sequence[NDArray[np.int64]]) -> Episodes:
        """Reads episodes side by side."""
        lengths = np.array([len(rows) for rows in chosen])
        last = np.array([rows[-1] for rows in chosen])
        mask = np.arange(lengths.max())[:, None] < lengths
        rows = np.broadcast_to(last, mask.shape).copy()
        rows.T[mask.T] = np.concatenate(chosen)
        entries = np.concatenate([rows, last[None]])
        entries += entries // self.settings.block_rows
        # What a step led to is the entry behind its own; for the last one that is all there is.
        behind = np.concatenate([np.zeros((1, len(chosen)), np.bool_), ~mask])
        behind[lengths, np.arange(len(chosen))] = True
        entries[behind] += 1
        columns: Columns = {key: self._take(key, rows) for key in self._here}
        columns |= {key: self._take(key, entries) for key in self._there}
        finals = np.flatnonzero(self._ring.has_final.reshape(-1)[last])
        for key in self._ring.finals if finals.size else ():
            for episode in finals.tolist():
                final = self._ring.take_finals(key, last[episode : episode + 1])
                columns[key][lengths[episode] :, episode] = final
        return Episodes(columns, mask)

    def _take(self, key: ColumnKey, places: NDArray[np.int64]) -> NDArray[Any]:
        found = self._ring.take(key, places.reshape(-1))
        return found.reshape(*places.shape, *found.shape[1:])
