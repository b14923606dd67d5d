"""Trajectory batches cut apart and put together by slots, for pushes of a good size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from common import tensors
from common.signature import Extent
from protos.wiserl.v1 import trajectory_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    from common.signature import ColumnSpec, Signature

    Columns = RepeatedCompositeFieldContainer[trajectory_pb2.Column]


def split(
    batch: trajectory_pb2.TrajectoryBatch, signature: Signature, at_most: int
) -> list[trajectory_pb2.TrajectoryBatch]:
    """Parts of at most so many slots each, in the order of the batch's slots."""
    parts = math.ceil(len(batch.slots) / at_most)
    positions = np.array_split(np.arange(len(batch.slots)), parts)
    return [_part(batch, signature, range(chosen[0], chosen[-1] + 1)) for chosen in positions]


def join(
    batches: Sequence[trajectory_pb2.TrajectoryBatch], signature: Signature
) -> trajectory_pb2.TrajectoryBatch:
    """One batch of all slots in order, of batches of one version and T with no slot in common."""
    first = batches[0]
    joined = trajectory_pb2.TrajectoryBatch(version=first.version, rows=first.rows)
    for batch in batches:
        joined.slots.extend(batch.slots)
        joined.episodes.extend(batch.episodes)
    for i, spec in enumerate(signature.columns):
        arrays = [tensors.decode(batch.columns[i].tensor) for batch in batches]
        joined_array = np.concatenate(arrays, axis=_slot_axis(spec))
        _add(joined.columns, first.columns[i], joined_array)
    _join_finals(joined, batches)
    return joined


def _slot_axis(column: ColumnSpec) -> int:
    return 0 if column.extent == Extent.INITIAL else 1


def _add(columns: Columns, like: trajectory_pb2.Column, array: tensors.Array) -> None:
    added = columns.add(role=like.role, group=like.group, key=like.key)
    added.tensor.CopyFrom(tensors.encode(array))


def _part(
    batch: trajectory_pb2.TrajectoryBatch, signature: Signature, positions: range
) -> trajectory_pb2.TrajectoryBatch:
    """The slots at consecutive positions, with their final observations and episodes."""
    part = trajectory_pb2.TrajectoryBatch(version=batch.version, rows=batch.rows)
    chosen = slice(positions.start, positions.stop)
    part.slots.extend(batch.slots[chosen])
    for column, spec in zip(batch.columns, signature.columns, strict=True):
        array = tensors.decode(column.tensor)
        _add(part.columns, column, array[:, chosen] if _slot_axis(spec) else array[chosen])
    _part_finals(part, batch.final_observations, positions)
    lives = {(slot.slot, slot.incarnation) for slot in part.slots}
    part.episodes.extend(e for e in batch.episodes if (e.slot, e.incarnation) in lives)
    return part


def _part_finals(
    part: trajectory_pb2.TrajectoryBatch,
    final: trajectory_pb2.FinalObservations,
    positions: range,
) -> None:
    """The final observations of the slots at these positions, if there are any."""
    chosen = [i for i, position in enumerate(final.slots) if position in positions]
    if not chosen:
        return
    added = part.final_observations
    added.rows.extend(final.rows[i] for i in chosen)
    added.slots.extend(final.slots[i] - positions.start for i in chosen)
    for column in final.columns:
        _add(added.columns, column, tensors.decode(column.tensor)[chosen])


def _join_finals(
    joined: trajectory_pb2.TrajectoryBatch, batches: Sequence[trajectory_pb2.TrajectoryBatch]
) -> None:
    """The final observations of all batches, if there are any."""
    finals = []
    before = 0
    for batch in batches:
        if len(batch.final_observations.rows):
            finals.append(batch.final_observations)
            joined.final_observations.rows.extend(finals[-1].rows)
            joined.final_observations.slots.extend(before + slot for slot in finals[-1].slots)
        before += len(batch.slots)
    for columns in zip(*(final.columns for final in finals), strict=True):
        arrays = [tensors.decode(column.tensor) for column in columns]
        _add(joined.final_observations.columns, columns[0], np.concatenate(arrays))
