"""A ring of blocks: T rows of one slot each, in an array per column, the oldest overwritten."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from common.signature import ColumnKey, ColumnSpec, Extent
from learner.experience.columns import FINAL_ROLES
from learner.experience.on_policy import VALID, FragmentKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from learner.experience.arrays import Arrays
    from learner.experience.columns import Columns
    from learner.experience.on_policy import Segment

_KEY_FIELDS = 4


@dataclasses.dataclass(frozen=True)
class Dump:
    """The rows of a ring, oldest block first; for tests and checkers.

    Attributes:
        keys: Of each of the N rows: its fragment's key, with the row's own number in the place of
            the first row's.
        columns: `[N, ...]`, entry t of every column with rows, `valid` among them.
    """

    keys: list[FragmentKey]
    columns: Columns


class BlockRing:
    """The blocks, by place. What is in them is for others to keep account of.

    Rows are numbered through all places: row t of place p is p T + t. So are entries of columns
    with one entry more than rows: entry t is p (T + 1) + t.

    Attributes:
        places: How many blocks there is room for.
        rows: T.
        columns: `[places, T, ...]`, `[places, T + 1, ...]` or `[places, ...]`, as the specs say.
        keys: [places, 4] int64, a `FragmentKey` each.
        has_final: [places, T] bool, the rows whose next observation lies in `finals`.
        finals: `[places, T, ...]`, final observations at the row of their step; no arrays before
            the first one came.
    """

    def __init__(
        self, specs: Sequence[ColumnSpec], *, places: int, rows: int, arrays: Arrays
    ) -> None:
        self.places = places
        self.rows = rows
        self._specs = tuple(specs)
        self._arrays = arrays
        self.columns: Columns = {}
        for i, spec in enumerate(specs):
            shape = _leading(spec.extent, places, rows) + spec.shape
            dtype = spec.dtype.newbyteorder("=")
            self.columns[spec.key] = arrays.column(f"{i}-{spec.key}", shape, dtype)
        self.keys = arrays.column("keys", (places, _KEY_FIELDS), np.dtype(np.int64))
        self.has_final = arrays.column("has-final", (places, rows), np.dtype(np.bool_))
        self.finals: Columns = {}
        self._whole = [_whole_entries(self.columns[spec.key], spec) for spec in specs]
        self._flat = {
            spec.key: _flat(self.columns[spec.key])
            for spec in specs
            if spec.extent != Extent.INITIAL
        }
        if arrays.is_persistent and self.has_final.any():
            self._allocate_finals()

    def place(self, number: int) -> int:
        """Where the block of a number lies."""
        return number % self.places

    @property
    def nbytes(self) -> int:
        """What the columns take, without final observations."""
        arrays = (*self.columns.values(), self.keys, self.has_final)
        return sum(array.nbytes for array in arrays)

    def runs(self, first: int, count: int, longest: int | None = None) -> Iterator[slice]:
        """The places of `count` blocks from number `first` on, as slices.

        Args:
            first: The number of the oldest.
            count: How many; at most `places`.
            longest: Places of a slice at most.
        """
        end = first + count
        while first < end:
            start = first % self.places
            length = min(end - first, self.places - start, longest or self.places)
            yield slice(start, start + length)
            first += length

    def write(
        self, first: int, segment: Segment, keys: Sequence[FragmentKey], skip: int = 0
    ) -> None:
        """Copies the B fragments of a segment to the blocks `first`, `first + 1`, ...

        Args:
            first: The number of the first block written.
            segment: T rows of B slots.
            keys: Of its B slots.
            skip: Leave out so many fragments at the front; at most `places` may stay.
        """
        if segment.final_rows.size and not self.finals:
            self._allocate_finals()
        numbers = np.fromiter(itertools.chain.from_iterable(keys), np.int64).reshape(
            -1, _KEY_FIELDS
        )
        done = skip
        for places in self.runs(first, len(keys) - skip):
            blocks = slice(done, done + places.stop - places.start)
            for spec, whole in zip(self._specs, self._whole, strict=True):
                source = _whole_entries(segment.columns[spec.key], spec)
                if spec.extent == Extent.INITIAL:
                    whole[places] = source[blocks]
                else:
                    whole[places] = source[:, blocks].swapaxes(0, 1)
            self.keys[places] = numbers[blocks]
            self.has_final[places] = False
            done = blocks.stop
        self._write_finals(first - skip, segment, skip)
        if self._arrays.is_persistent:
            for number in range(first, first + len(keys) - skip):
                place = self.place(number)
                self._arrays.seal(place, number, self._parts(place))

    def is_whole(self, number: int) -> bool:
        """Whether the block of a number is there, from an earlier process."""
        place = self.place(number)
        return self._arrays.is_whole(place, number, self._parts(place))

    def empty(self, number: int) -> None:
        """Puts a block without a valid row in the place of one that is not whole."""
        place = self.place(number)
        self.columns[VALID][place] = False
        self.has_final[place] = False
        self._arrays.seal(place, number, self._parts(place))

    def dump(self, numbers: Sequence[int]) -> Dump:
        """A copy of the rows of the blocks with these numbers."""
        places = np.array([self.place(number) for number in numbers], np.int64)
        keys = [
            FragmentKey(sampler, slot, incarnation, first + t)
            for sampler, slot, incarnation, first in self.keys[places].tolist()
            for t in range(self.rows)
        ]
        columns = {
            spec.key: _flat(self.columns[spec.key][places, : self.rows])
            for spec in self._specs
            if spec.extent != Extent.INITIAL
        }
        return Dump(keys, columns)

    def take(self, key: ColumnKey, rows: NDArray[np.int64]) -> NDArray[Any]:
        """`[M, ...]`: rows of a column with as many entries, or entries of one with one more."""
        return self._flat[key].take(rows, axis=0)

    def take_finals(self, key: ColumnKey, rows: NDArray[np.int64]) -> NDArray[Any]:
        """`[M, ...]` of the final observations of steps that have one."""
        return _flat(self.finals[key]).take(rows, axis=0)

    def _write_finals(self, base: int, segment: Segment, skip: int) -> None:
        """Copies final observations; fragment i of the segment is block `base + i`."""
        kept = np.flatnonzero(segment.final_slots >= skip)
        if not kept.size:
            return
        places = (base + segment.final_slots[kept]) % self.places
        rows = segment.final_rows[kept]
        self.has_final[places, rows] = True
        for key, array in self.finals.items():
            array[places, rows] = segment.final_columns[key][kept]

    def _allocate_finals(self) -> None:
        for i, spec in enumerate(self._specs):
            if spec.key.role in FINAL_ROLES:
                shape = (self.places, self.rows, *spec.shape)
                dtype = spec.dtype.newbyteorder("=")
                name = f"final-{i}-{spec.key}"
                self.finals[spec.key] = self._arrays.column(name, shape, dtype, sparse=True)

    def _parts(self, place: int) -> Iterator[NDArray[Any]]:
        """All that a block consists of."""
        has_final = self.has_final[place]
        yield from (array[place] for array in self.columns.values())
        yield from (self.keys[place], has_final)
        if has_final.any():
            yield from (array[place][has_final] for array in self.finals.values())


def _leading(extent: Extent, places: int, rows: int) -> tuple[int, ...]:
    return {
        Extent.ROWS: (places, rows),
        Extent.ROWS_PLUS_ONE: (places, rows + 1),
        Extent.INITIAL: (places,),
    }[extent]


def _whole_entries(array: NDArray[Any], spec: ColumnSpec) -> NDArray[Any]:
    """A view in which an entry is one element: NumPy copies these several times as fast."""
    size = math.prod(spec.shape)
    array = np.ascontiguousarray(array, spec.dtype.newbyteorder("="))
    if size <= 1:
        return array
    leading = array.shape[: array.ndim - len(spec.shape)]
    return array.reshape(*leading, size).view(f"V{size * array.itemsize}")[..., 0]


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """A view whose first axis counts rows or entries of all places."""
    return array.reshape(-1, *array.shape[2:])
