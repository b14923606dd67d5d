"""The experience of one synchronous round: preallocated columns that fragments are written into."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.signature import ColumnKey, ColumnSpec, Extent, Role
from learner.experience import columns
from protos.wiserl.v1 import trajectory_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from learner.experience.columns import Columns

VALID = ColumnKey(Role.VALID)

NONE: NDArray[np.int64] = np.empty(0, np.int64)
"""The rows of no final observations."""


class FragmentKey(NamedTuple):
    """Where a fragment stands among all of a run; a round is ordered by it, never by arrival."""

    sampler: int
    slot: int
    incarnation: int
    first_row: int


@dataclasses.dataclass(frozen=True)
class Segment:
    """A checked push: T rows of B slots, as arrays over the message's own bytes.

    Attributes:
        columns: `[T, B, ...]`, `[T + 1, B, ...]` or `[B, ...]`, as their specs say.
        final_rows: [N] int64, the rows whose next observation is another episode's.
        final_slots: [N] int64, their positions among the B slots.
        final_columns: `[N, ...]`, what stands in the place of entry `final_rows + 1`.
        episodes: Those that ended in these rows, with the position of their slot.
    """

    columns: Columns
    final_rows: NDArray[np.int64]
    final_slots: NDArray[np.int64]
    final_columns: Columns
    episodes: Sequence[tuple[int, trajectory_pb2.Episode]]


@dataclasses.dataclass(frozen=True)
class OnPolicyBatch:
    """A closed round: exactly `n_envs` fragments of `n_steps` rows of one policy version.

    B is `n_envs`; the fragments stand in ascending order of (index, slot, incarnation, first row).
    The arrays belong to the store, which writes into them again when the round after the next one
    opens: be done with them by then.

    Attributes:
        version: Of the policy that acted.
        columns: `[T, B, ...]`, `[T + 1, B, ...]` or `[B, ...]`, as their specs say. `valid` is
            false also beyond the step budget.
        final_rows: [N] int64, rows of steps whose next observation is another episode's.
        final_slots: [N] int64, their positions on the axis B; sorted by (slot, row).
        final_columns: `[N, ...]`, what stands in the place of entry `final_rows + 1`.
        episodes: Those that ended within the budget, in the order of (position, end row).
        steps: Valid steps within the budget.
        keys: Where each of the B fragments stands among all of the run.
    """

    version: int
    columns: Columns
    final_rows: NDArray[np.int64]
    final_slots: NDArray[np.int64]
    final_columns: Columns
    episodes: list[trajectory_pb2.Episode]
    steps: int
    keys: list[FragmentKey]


class OnPolicyStore:
    """Takes the fragments of one round after the other.

    Two sets of arrays take turns, so that a round can fill while the one before it is trained on.
    """

    def __init__(self, specs: Sequence[ColumnSpec]) -> None:
        self._specs = tuple(specs)
        self._finals = columns.final_columns(specs)
        self._buffers: list[Columns] = [{}, {}]
        self._turn = 0
        self._shape = (0, 0)
        self._version = 0
        self._keys: list[FragmentKey | None] = []
        self._segments: list[tuple[NDArray[np.int64], Segment]] = []

    def open(self, version: int, *, n_envs: int, n_steps: int) -> None:
        """Begins a round; whatever the one before it had not closed is dropped."""
        if self._shape != (n_envs, n_steps):
            self._shape = (n_envs, n_steps)
            self._buffers = [columns.allocate(self._specs, n_steps, n_envs) for _ in range(2)]
        self._turn = 1 - self._turn
        self._version = version
        self._keys = [None] * n_envs
        self._segments = []

    def write(self, positions: Sequence[int], keys: Sequence[FragmentKey], segment: Segment) -> int:
        """Copies the B fragments of a segment to their positions on the axis B of the round.

        Returns:
            The number of valid steps in them.
        """
        columns.write(self._buffers[self._turn], segment.columns, self._specs, _as_slice(positions))
        for position, key in zip(positions, keys, strict=True):
            self._keys[position] = key
        self._segments.append((np.array(positions, np.int64), _detached(segment)))
        return int(np.count_nonzero(segment.columns[VALID]))

    def close(self, budget: int) -> OnPolicyBatch:
        """The round in its order, with at most `budget` valid steps.

        Raises:
            ValueError: Fragments are missing.
        """
        keys = [key for key in self._keys if key is not None]
        if len(keys) < len(self._keys):
            raise ValueError(f"{len(self._keys) - len(keys)} of {len(self._keys)} are missing")
        order = sorted(range(len(keys)), key=keys.__getitem__)
        found = self._ordered(order)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        ordered = [keys[i] for i in order]
        steps = cut(found[VALID], budget)
        final_rows, final_slots, final_columns = self._final_observations(rank, found[VALID])
        return OnPolicyBatch(
            self._version,
            found,
            final_rows,
            final_slots,
            final_columns,
            self._episodes(rank, ordered, found[VALID]),
            steps,
            ordered,
        )

    def _ordered(self, order: list[int]) -> Columns:
        """The round's columns; moved only where fragments came from elsewhere than was due."""
        found = self._buffers[self._turn]
        if order == list(range(len(order))):
            return dict(found)
        for spec in self._specs:
            axis = 0 if spec.extent == Extent.INITIAL else 1
            found[spec.key][...] = np.take(found[spec.key], order, axis=axis)
        return dict(found)

    def _final_observations(
        self, rank: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Columns]:
        brought = [entry for entry in self._segments if entry[1].final_rows.size]
        if not brought:
            empty = {spec.key: np.empty((0, *spec.shape), spec.dtype) for spec in self._finals}
            return NONE, NONE, empty
        rows = np.concatenate([segment.final_rows for _, segment in brought])
        slots = np.concatenate([rank[where[segment.final_slots]] for where, segment in brought])
        kept = np.flatnonzero(valid[rows, slots])
        chosen = kept[np.lexsort((rows[kept], slots[kept]))]
        values = {
            spec.key: np.concatenate([each.final_columns[spec.key] for _, each in brought])[chosen]
            for spec in self._finals
        }
        return rows[chosen], slots[chosen], values

    def _episodes(
        self, rank: NDArray[np.int64], keys: list[FragmentKey], valid: NDArray[np.bool_]
    ) -> list[trajectory_pb2.Episode]:
        ended = [
            (int(rank[where[position]]), episode.end_row, episode)
            for where, segment in self._segments
            for position, episode in segment.episodes
        ]
        ended.sort(key=operator.itemgetter(0, 1))
        return [
            episode
            for position, end_row, episode in ended
            if valid[end_row - keys[position].first_row, position]
        ]


def _as_slice(positions: Sequence[int]) -> slice | list[int]:
    """Positions at equal distances as a slice, which NumPy copies faster than a list of indices."""
    if len(positions) == 1:
        return slice(positions[0], positions[0] + 1)
    steps = {after - before for before, after in itertools.pairwise(positions)}
    if len(steps) == 1 and (step := steps.pop()) > 0:
        return slice(positions[0], positions[-1] + 1, step)
    return list(positions)


def _detached(segment: Segment) -> Segment:
    """The sparse part of a segment without its message: the rest of that can go at once."""
    return Segment(
        {},
        segment.final_rows,
        segment.final_slots,
        {key: array.copy() for key, array in segment.final_columns.items()},
        [(position, copy_episode(episode)) for position, episode in segment.episodes],
    )


def copy_episode(episode: trajectory_pb2.Episode) -> trajectory_pb2.Episode:
    """An episode that does not keep the whole push alive, as a part of its message would."""
    copied = trajectory_pb2.Episode()
    copied.CopyFrom(episode)
    return copied


def cut(valid: NDArray[np.bool_], budget: int) -> int:
    """Makes rows beyond the budget invalid, slot after slot; returns the valid steps that stay.

    Args:
        valid: [T, B], changed in place.
        budget: Of valid steps.
    """
    steps = int(np.count_nonzero(valid))
    if steps <= budget:
        return steps
    by_slot: NDArray[Any] = valid.T
    valid &= (np.cumsum(by_slot).reshape(by_slot.shape) <= budget).T
    return budget
