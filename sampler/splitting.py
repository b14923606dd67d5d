"""Splits a trajectory batch by slots, for a learner that takes less at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from common import tensors
from common.signature import Extent
from protos.wiserl.v1 import trajectory_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.signature import Signature


def split(
    batch: trajectory_pb2.TrajectoryBatch, signature: Signature, at_most: int
) -> list[trajectory_pb2.TrajectoryBatch]:
    """Parts of at most so many slots each, in the order of the batch's slots."""
    parts = math.ceil(len(batch.slots) / at_most)
    positions = np.array_split(np.arange(len(batch.slots)), parts)
    return [_part(batch, signature, range(chosen[0], chosen[-1] + 1)) for chosen in positions]


def _part(
    batch: trajectory_pb2.TrajectoryBatch, signature: Signature, positions: range
) -> trajectory_pb2.TrajectoryBatch:
    """The slots at consecutive positions, with their final observations and episodes."""
    part = trajectory_pb2.TrajectoryBatch(version=batch.version, rows=batch.rows)
    part.slots.extend(batch.slots[positions.start : positions.stop])
    for column, spec in zip(batch.columns, signature.columns, strict=True):
        array = tensors.decode(column.tensor)
        chosen = slice(positions.start, positions.stop)
        _add(part.columns, column, array[chosen] if _is_initial(spec.extent) else array[:, chosen])
    if batch.HasField("final_observations"):
        _add_final(part, batch.final_observations, positions)
    lives = {(slot.slot, slot.incarnation) for slot in part.slots}
    part.episodes.extend(e for e in batch.episodes if (e.slot, e.incarnation) in lives)
    return part


def _is_initial(extent: Extent) -> bool:
    return extent == Extent.INITIAL


def _add(
    columns: Sequence[trajectory_pb2.Column],
    like: trajectory_pb2.Column,
    array: tensors.Array,
) -> None:
    added = columns.add()  # type: ignore[attr-defined]
    added.role, added.group, added.key = like.role, like.group, like.key
    added.tensor.CopyFrom(tensors.encode(array))


def _add_final(
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
