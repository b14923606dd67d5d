"""Pushes that must be refused: how to spoil a good one, and which field the refusal then names.

The good one has two fragments of two rows, of the slots 0 and 1 and of version 1, as granted. Each
spoiler takes the request and changes it in place.
"""

from __future__ import annotations

import math

import numpy as np
from front_support import OBSERVATION, make_columns

from common import tensors
from common.signature import ColumnSpec
from protos.wiserl.v1 import signature_pb2, tensor_pb2, trajectory_pb2


def column(request, role):
    """The column of a role."""
    found = [each for each in request.batch.columns if each.role == role]
    assert len(found) == 1
    return found[0]


def reward(request):
    """The reward tensor."""
    return column(request, signature_pb2.ROLE_REWARD).tensor


def wrong_dtype(request):
    wide = tensors.decode(reward(request)).astype(np.float64)
    reward(request).CopyFrom(tensors.encode(wide))


def unknown_dtype(request):
    reward(request).dtype = 99


def wrong_shape(request):
    reward(request).shape[:] = [4]


def huge_shape(request):
    reward(request).shape[:] = [2**31, 2**31]


def huge_shape_of_everything(request):
    for each in request.batch.columns:
        each.tensor.shape[:] = [2**31, 2**31]


def short_bytes(request):
    reward(request).data = reward(request).data[:-1]


def long_bytes(request):
    reward(request).data += b"\0"


def no_tensor(request):
    column(request, signature_pb2.ROLE_REWARD).ClearField("tensor")


def value_in(role, value):
    def spoil(request):
        tensor = column(request, role).tensor
        array = tensors.decode(tensor).copy()
        array[1, 1] = value
        tensor.CopyFrom(tensors.encode(array))

    return spoil


def odd_bool(request):
    tensor = column(request, signature_pb2.ROLE_VALID).tensor
    tensor.data = tensor.data[:-1] + b"\2"


def missing_column(request):
    del request.batch.columns[2]


def no_columns(request):
    del request.batch.columns[:]


def extra_column(request):
    request.batch.columns.add(role=signature_pb2.ROLE_RECORD, key="value").tensor.CopyFrom(
        reward(request)
    )


def unknown_role(request):
    request.batch.columns[2].role = 77


def duplicate_column(request):
    request.batch.columns.add().CopyFrom(request.batch.columns[2])


def swapped_columns(request):
    columns = list(request.batch.columns)
    columns[1], columns[2] = columns[2], columns[1]
    spoiled = trajectory_pb2.TrajectoryBatch(columns=columns)
    del request.batch.columns[:]
    request.batch.columns.extend(spoiled.columns)


def wrong_rows(request):
    request.batch.rows = 3


def huge_rows(request):
    request.batch.rows = 2**32 - 1


def wrong_version(request):
    request.batch.version = 2


def slot_out_of_range(request):
    request.batch.slots[1].slot = 2


def slot_far_out_of_range(request):
    request.batch.slots[1].slot = 2**32 - 1


def slot_twice(request):
    request.batch.slots[1].slot = 0


def no_slots(request):
    del request.batch.slots[:]


def strange_incarnation(request):
    request.batch.slots[0].incarnation = 1 << 20


def no_batch(request):
    request.ClearField("batch")


def episode_of_another_slot(request):
    request.batch.episodes.add(slot=7, end_row=1)


def episode_of_another_incarnation(request):
    request.batch.episodes[0].incarnation = 9


def episode_of_another_row(request):
    request.batch.episodes[0].end_row = 2


def episode_twice(request):
    request.batch.episodes.add().CopyFrom(request.batch.episodes[0])


def episode_without_end(request):
    request.batch.episodes[0].end_row = 0


def infinite_return(request):
    request.batch.episodes[0].episode_return = math.inf


def infinite_agent_return(request):
    request.batch.episodes[0].agent_returns.append(math.nan)


def finals(rows, slots, count=None, shape=(4,)):
    def spoil(request):
        message = request.batch.final_observations
        message.rows.extend(rows)
        message.slots.extend(slots)
        values = np.zeros((len(rows) if count is None else count, *shape), np.float32)
        spec = ColumnSpec(OBSERVATION, values.dtype, shape)
        message.columns.extend(make_columns({OBSERVATION: values}, (spec,)))

    return spoil


def finals_without_columns(request):
    request.batch.final_observations.rows.append(1)
    request.batch.final_observations.slots.append(0)


def no_sequence(request):
    request.sequence = 0


OBSERVED, COLUMN = "batch.columns[0].tensor", "batch.columns[2].tensor"
FINALS = "batch.final_observations"

MALFORMED = {
    "dtype": (wrong_dtype, f"{COLUMN}.dtype"),
    "unknown dtype": (unknown_dtype, f"{COLUMN}.dtype"),
    "shape": (wrong_shape, f"{COLUMN}.shape"),
    "huge shape": (huge_shape, f"{COLUMN}.shape"),
    "huge shape everywhere": (huge_shape_of_everything, "batch.columns[0].tensor.shape"),
    "too few bytes": (short_bytes, f"{COLUMN}.data"),
    "too many bytes": (long_bytes, f"{COLUMN}.data"),
    "no tensor": (no_tensor, f"{COLUMN}.dtype"),
    "NaN reward": (value_in(signature_pb2.ROLE_REWARD, math.nan), f"{COLUMN}.data"),
    "infinite reward": (value_in(signature_pb2.ROLE_REWARD, -math.inf), f"{COLUMN}.data"),
    "NaN observed": (value_in(signature_pb2.ROLE_OBSERVATION, math.nan), f"{OBSERVED}.data"),
    "bool of 2": (odd_bool, "batch.columns[6].tensor.data"),
    "missing column": (missing_column, "batch.columns"),
    "no columns": (no_columns, "batch.columns"),
    "extra column": (extra_column, "batch.columns[10]"),
    "unknown role": (unknown_role, "batch.columns[2]"),
    "duplicate column": (duplicate_column, "batch.columns[2]"),
    "order of columns": (swapped_columns, "batch.columns"),
    "rows": (wrong_rows, "batch.rows"),
    "huge rows": (huge_rows, "batch.rows"),
    "version": (wrong_version, "batch.version"),
    "slot out of range": (slot_out_of_range, "batch.slots[1].slot"),
    "slot far out of range": (slot_far_out_of_range, "batch.slots[1].slot"),
    "slot twice": (slot_twice, "batch.slots[1].slot"),
    "no slots": (no_slots, "batch.slots"),
    "incarnation": (strange_incarnation, "batch.slots[0].incarnation"),
    "no batch": (no_batch, "batch.version"),
    "episode of another slot": (episode_of_another_slot, "batch.episodes[1].slot"),
    "episode of another copy": (episode_of_another_incarnation, "batch.episodes[0].incarnation"),
    "episode of another row": (episode_of_another_row, "batch.episodes[0].end_row"),
    "episode twice": (episode_twice, "batch.episodes[1].end_row"),
    "episode without an end": (episode_without_end, "batch.episodes[0].end_row"),
    "infinite return": (infinite_return, "batch.episodes[0].episode_return"),
    "NaN of an agent": (infinite_agent_return, "batch.episodes[0].agent_returns"),
    "final row out of range": (finals([2], [0]), f"{FINALS}.rows"),
    "final slot out of range": (finals([1], [2]), f"{FINALS}.slots"),
    "final of no end": (finals([1], [1]), f"{FINALS}.rows"),
    "final twice": (finals([1, 1], [0, 0]), f"{FINALS}.rows"),
    "finals of unequal length": (finals([1], []), f"{FINALS}.slots"),
    "finals of wrong count": (finals([1], [0], count=2), f"{FINALS}.columns[0].tensor.shape"),
    "finals of wrong shape": (finals([1], [0], shape=(5,)), f"{FINALS}.columns[0].tensor.shape"),
    "finals without columns": (finals_without_columns, f"{FINALS}.columns"),
    "no sequence": (no_sequence, "sequence"),
}

assert tensor_pb2.DataType.values()[-1] < 99
