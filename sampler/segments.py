"""Segment buffers: where a worker writes rows and the supervisor reads them.

A buffer is plain memory (an anonymous shared file between processes, a bytearray within one). Both
sides compute the same layout from the signature and the size of the task, so nothing but numbers
travels with a segment. What a segment may have few or many of (last observations, episodes) has
room for the worst case; pages that nobody writes take no memory.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from common import tensors
from common.signature import ColumnKey, Extent, Role
from protos.wiserl.v1 import trajectory_pb2
from sampler.episode_wire import encode_episodes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from mmap import mmap

    from numpy.typing import NDArray

    from common.signature import Signature
    from common.specs import EnvironmentSpec

_ALIGNMENT = 64
_FINAL_ROLES = (Role.OBSERVATION, Role.ACTION_MASK, Role.GLOBAL_STATE)

_EPISODE = [
    ("position", "<u4"),
    ("row", "<u4"),
    ("length", "<u8"),
    ("total", "<f8"),
    ("terminated", "?"),
]


@dataclasses.dataclass(frozen=True)
class Segment:
    """A buffer seen as arrays.

    Attributes:
        columns: The columns of the signature, `[T, B, ...]`, `[T + 1, B, ...]` or `[B, ...]`.
        finals: Last observations of replaced episodes, `[T * B, ...]`, of which some are used.
        final_rows: `[T * B]`, their rows.
        final_positions: `[T * B]`, their places in the slot dimension.
        episodes: `[T * B]` finished episodes, of which some are used; with several agents their
            returns are in the field `agents`, and `total` is the mean.
    """

    columns: dict[ColumnKey, NDArray[Any]]
    finals: dict[ColumnKey, NDArray[Any]]
    final_rows: NDArray[np.uint32]
    final_positions: NDArray[np.uint32]
    episodes: NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a rolled segment holds beside its arrays; small, and made of what JSON can carry.

    Attributes:
        version: The policy that acted.
        rows: T.
        slots: The numbers of the slots, in the order of the arrays.
        incarnations: Of each slot.
        first_rows: Of each slot.
        finals: How many last observations there are.
        episodes: How many episodes ended.
        metrics: Of the episodes (by place among them, as text) that reported any.
    """

    version: int
    rows: int
    slots: list[int]
    incarnations: list[int]
    first_rows: list[int]
    finals: int
    episodes: int
    metrics: dict[str, dict[str, float]]


class SegmentLayout:
    """Where everything lies in a buffer for T rows of B slots.

    Args:
        signature: Says the columns.
        spec: The environment's.
        rows: T.
        slots: B.
        with_finals: Whether episodes are replaced at once and leave their last observations.
    """

    def __init__(
        self,
        signature: Signature,
        spec: EnvironmentSpec,
        rows: int,
        slots: int,
        *,
        with_finals: bool,
    ) -> None:
        self._sections: list[tuple[str, ColumnKey | None, np.dtype[Any], tuple[int, ...], int]] = []
        self.size_bytes = 0
        for column in signature.columns:
            shape = (*column.extent.leading(rows, slots), *column.shape)
            self._add("column", column.key, column.dtype, shape)
        capacity = rows * slots
        finals = capacity if with_finals else 0
        self._add("final_rows", None, np.dtype("<u4"), (finals,))
        self._add("final_positions", None, np.dtype("<u4"), (finals,))
        for column in signature.columns:
            if column.extent == Extent.ROWS_PLUS_ONE and column.key.role in _FINAL_ROLES:
                self._add("final", column.key, column.dtype, (finals, *column.shape))
        agents = [("agents", "<f8", (len(spec.agents),))] if spec.multi_agent else []
        self._add("episodes", None, np.dtype([*_EPISODE, *agents]), (capacity,))

    def _add(
        self, kind: str, key: ColumnKey | None, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        self._sections.append((kind, key, dtype, shape, self.size_bytes))
        size = math.prod(shape) * dtype.itemsize
        self.size_bytes += -(-size // _ALIGNMENT) * _ALIGNMENT

    def views(self, buffer: bytearray | mmap) -> Segment:
        """The arrays over a buffer of at least `size_bytes`."""
        columns: dict[ColumnKey, NDArray[Any]] = {}
        finals: dict[ColumnKey, NDArray[Any]] = {}
        others: dict[str, NDArray[Any]] = {}
        for kind, key, dtype, shape, offset in self._sections:
            count = math.prod(shape)
            array = np.frombuffer(buffer, dtype, count, offset) if count else np.empty(0, dtype)
            array = array.reshape(shape)
            if key is None:
                others[kind] = array
            else:
                (columns if kind == "column" else finals)[key] = array
        return Segment(
            columns, finals, others["final_rows"], others["final_positions"], others["episodes"]
        )


def select(whole: Segment, contents: Contents, positions: list[int], segment: Segment) -> Contents:
    """Copies some slots of a segment into another one.

    Args:
        whole: All slots.
        contents: What it holds.
        positions: Which of its slots, `[B]`.
        segment: Gets them; made for B slots.

    Returns:
        What `segment` holds.
    """
    for key, column in segment.columns.items():
        source = whole.columns[key]
        # Only a state has no row dimension: it is the one before the first row.
        column[...] = source[positions] if key.role == Role.STATE else source[:, positions]
    place_of = {position: place for place, position in enumerate(positions)}
    wanted = np.flatnonzero(np.isin(whole.final_positions[: contents.finals], positions))
    segment.final_rows[: len(wanted)] = whole.final_rows[wanted]
    segment.final_positions[: len(wanted)] = [
        place_of[position] for position in whole.final_positions[wanted].tolist()
    ]
    for key, array in segment.finals.items():
        array[: len(wanted)] = whole.finals[key][wanted]
    kept = np.flatnonzero(np.isin(whole.episodes["position"][: contents.episodes], positions))
    episodes = whole.episodes[kept]
    episodes["position"] = [place_of[position] for position in episodes["position"].tolist()]
    segment.episodes[: len(kept)] = episodes
    return dataclasses.replace(
        contents,
        slots=[contents.slots[position] for position in positions],
        incarnations=[contents.incarnations[position] for position in positions],
        first_rows=[contents.first_rows[position] for position in positions],
        finals=len(wanted),
        episodes=len(kept),
        metrics={
            str(place): contents.metrics[str(old)]
            for place, old in enumerate(kept.tolist())
            if str(old) in contents.metrics
        },
    )


def to_batch(segment: Segment, contents: Contents) -> trajectory_pb2.TrajectoryBatch:
    """The message that a rolled segment is pushed as; copies what it takes from the buffer."""
    batch = trajectory_pb2.TrajectoryBatch(version=contents.version, rows=contents.rows)
    for slot, incarnation, first_row in zip(
        contents.slots, contents.incarnations, contents.first_rows, strict=True
    ):
        batch.slots.add(slot=slot, incarnation=incarnation, first_row=first_row)
    for key, array in segment.columns.items():
        _fill(batch.columns.add(), key, array)
    if contents.finals:
        final = batch.final_observations
        final.rows.extend(segment.final_rows[: contents.finals].tolist())
        final.slots.extend(segment.final_positions[: contents.finals].tolist())
        for key, array in segment.finals.items():
            _fill(final.columns.add(), key, array[: contents.finals])
    _add_episodes(batch, segment.episodes[: contents.episodes], contents)
    return batch


def _fill(column: trajectory_pb2.Column, key: ColumnKey, array: NDArray[Any]) -> None:
    column.role = key.role.value  # type: ignore[assignment]
    column.group, column.key = key.group, key.key
    column.tensor.dtype = tensors.to_wire_dtype(array.dtype)
    column.tensor.shape.extend(array.shape)
    column.tensor.data = array.tobytes()


def _add_episodes(
    batch: trajectory_pb2.TrajectoryBatch, episodes: NDArray[Any], contents: Contents
) -> None:
    if not len(episodes):
        return
    position = episodes["position"]
    of_slots = (contents.slots, contents.incarnations, contents.first_rows)
    slot, incarnation, first_row = (np.array(one, np.uint64)[position] for one in of_slots)
    encoded = encode_episodes(
        slot=slot,
        incarnation=incarnation,
        end_row=first_row + episodes["row"],
        length=episodes["length"],
        episode_return=episodes["total"],
        terminated=episodes["terminated"],
    )
    batch.MergeFromString(encoded)
    if "agents" in (episodes.dtype.names or ()):
        for episode, returns in zip(batch.episodes, episodes["agents"].tolist(), strict=True):
            episode.agent_returns.extend(returns)
    metrics: Mapping[str, float]
    for place, metrics in contents.metrics.items():
        batch.episodes[int(place)].metrics.update(metrics)
