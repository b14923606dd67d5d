"""Segments that wait to be trained on once: a bounded queue, and batches of fragments out of it."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.signature import ColumnSpec, Extent
from learner.experience import columns
from learner.experience.on_policy import NONE, VALID, FragmentKey, OnPolicyBatch, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from learner.experience.columns import Columns

NOBODY = FragmentKey(-1, 0, 0, 0)
"""Stands for a fragment that a batch lacks at the end of a run; none of its rows is valid."""


class Fragment(NamedTuple):
    """One slot's part of a segment.

    Attributes:
        key: Where it stands among all of the run.
        version: Of the policy that acted.
        segment: What it is part of.
        position: Of it on the axis B of the segment.
    """

    key: FragmentKey
    version: int
    segment: Segment
    position: int

    @property
    def rows(self) -> int:
        """Its rows, those that are not valid included."""
        return len(self.segment.columns[VALID])


class SegmentQueue:
    """First in, first out. Columns stay where they came in, over the pushes' own bytes.

    A segment is taken in as long as there is room for one fragment, whatever its size: it is no
    larger than a push, for which the front has memory set aside.

    Args:
        capacity: Fragments, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._fragments: collections.deque[Fragment] = collections.deque()

    def __len__(self) -> int:
        """Fragments that wait."""
        return len(self._fragments)

    def has_room(self) -> bool:
        """Whether a segment of any size may come in."""
        return len(self._fragments) < self._capacity

    def put(self, segment: Segment, keys: Sequence[FragmentKey], version: int) -> None:
        """Takes in a segment; its episodes are told of elsewhere, and would keep its push alive."""
        kept = dataclasses.replace(segment, episodes=())
        self._fragments.extend(
            Fragment(key, version, kept, position) for position, key in enumerate(keys)
        )

    def drop(self, is_stale: Callable[[int], bool]) -> list[Fragment]:
        """Takes out what is of a version that is too old by now."""
        dropped = [each for each in self._fragments if is_stale(each.version)]
        if dropped:
            kept = [each for each in self._fragments if not is_stale(each.version)]
            self._fragments = collections.deque(kept)
        return dropped

    def take(self, count: int) -> list[Fragment]:
        """Takes out the `count` fragments that came first, or all there are."""
        return [self._fragments.popleft() for _ in range(min(count, len(self._fragments)))]


class BatchBuffer:
    """Arrays that the fragments of one batch after the other are gathered in.

    Args:
        specs: The columns.
        rows: T; a fragment may have fewer, and is filled up with rows that are not valid.
        fragments: B.
    """

    def __init__(self, specs: Sequence[ColumnSpec], *, rows: int, fragments: int) -> None:
        self._specs = tuple(specs)
        self._finals = columns.final_columns(specs)
        self._columns = columns.allocate(specs, rows, fragments)
        self._fragments = fragments

    def gather(self, fragments: Sequence[Fragment]) -> OnPolicyBatch:
        """A batch of at most B fragments; places that are left have no valid row.

        Its arrays belong to the buffer, which writes into them again at the next call. `version` is
        the oldest one, and there are no episodes.
        """
        groups = [list(each) for _, each in itertools.groupby(fragments, lambda f: id(f.segment))]
        begin = 0
        finals: list[tuple[int, list[Fragment]]] = []
        for group in groups:
            self._write(begin, group)
            finals.append((begin, group))
            begin += len(group)
        for array in self._columns_from(begin):
            array[...] = 0
        missing = self._fragments - len(fragments)
        rows, slots, values = self._final_observations(finals)
        return OnPolicyBatch(
            version=min(each.version for each in fragments),
            columns=dict(self._columns),
            final_rows=rows,
            final_slots=slots,
            final_columns=values,
            episodes=[],
            steps=int(np.count_nonzero(self._columns[VALID])),
            keys=[each.key for each in fragments] + [NOBODY] * missing,
        )

    def _columns_from(self, place: int) -> list[Any]:
        """The parts of all columns that belong to the places from this one on."""
        return [
            self._columns[spec.key][place:]
            if spec.extent == Extent.INITIAL
            else self._columns[spec.key][:, place:]
            for spec in self._specs
        ]

    def _write(self, begin: int, group: Sequence[Fragment]) -> None:
        """Copies neighbours in a segment to neighbouring places."""
        source = group[0].segment.columns
        at = slice(begin, begin + len(group))
        taken = slice(group[0].position, group[0].position + len(group))
        for spec in self._specs:
            target, values = self._columns[spec.key], source[spec.key]
            if spec.extent == Extent.INITIAL:
                target[at] = values[taken]
            else:
                target[: len(values), at] = values[:, taken]
                target[len(values) :, at] = 0

    def _final_observations(
        self, groups: Sequence[tuple[int, list[Fragment]]]
    ) -> tuple[Any, Any, Columns]:
        """Those of valid rows of the fragments, by their places; empty arrays for none."""
        found_rows, found_slots = [NONE], [NONE]
        found: dict[Any, list[Any]] = {
            spec.key: [np.empty((0, *spec.shape), spec.dtype)] for spec in self._finals
        }
        for begin, group in groups:
            segment, first = group[0].segment, group[0].position
            if not segment.final_rows.size:
                continue
            places = segment.final_slots - first
            mine = (places >= 0) & (places < len(group))
            mine &= segment.columns[VALID][segment.final_rows, segment.final_slots]
            found_rows.append(segment.final_rows[mine])
            found_slots.append(begin + places[mine])
            for spec in self._finals:
                found[spec.key].append(segment.final_columns[spec.key][mine])
        values = {key: np.concatenate(parts) for key, parts in found.items()}
        return np.concatenate(found_rows), np.concatenate(found_slots), values
