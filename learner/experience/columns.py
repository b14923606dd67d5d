"""The columns of trajectories: how large they are, and how a message's become arrays, checked."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from common import tensors
from common.errors import InvalidFieldError
from common.signature import ColumnKey, ColumnSpec, Extent, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from protos.wiserl.v1 import trajectory_pb2

Columns: TypeAlias = dict[ColumnKey, NDArray[Any]]

_OBSERVED = frozenset({Role.OBSERVATION, Role.GLOBAL_STATE})

FINAL_ROLES = _OBSERVED | {Role.ACTION_MASK}
"""What `FinalObservations` brings for a step whose next entry is another episode's."""


def allocate(columns: Iterable[ColumnSpec], rows: int, slots: int) -> Columns:
    """Uninitialised arrays `[T, B, ...]`, `[T + 1, B, ...]` or `[B, ...]`, in native byte order."""
    return {
        column.key: np.empty(
            column.extent.leading(rows, slots) + column.shape, column.dtype.newbyteorder("=")
        )
        for column in columns
    }


def fragment_bytes(columns: Iterable[ColumnSpec], rows: int) -> int:
    """The bytes that one slot's columns take for `rows` rows."""
    return sum(
        math.prod(column.extent.leading(rows, 1) + column.shape) * column.dtype.itemsize
        for column in columns
    )


def final_columns(columns: Iterable[ColumnSpec]) -> tuple[ColumnSpec, ...]:
    """Those that final observations consist of, in the order of the signature."""
    return tuple(column for column in columns if column.key.role in FINAL_ROLES)


@dataclasses.dataclass(frozen=True)
class _Expected:
    """A column as the wire has it, looked up once and not for every push."""

    spec: ColumnSpec
    address: tuple[int, str, str]
    wire: int
    dtype: np.dtype[Any]
    is_bool: bool
    is_reward: bool
    is_observed: bool
    """What of floats environments show: a Box without bounds has infinite ones, and none NaN."""


class ColumnDecoder:
    """Takes the columns of messages, which must be exactly those of a signature, in its order."""

    def __init__(self, columns: Sequence[ColumnSpec]) -> None:
        self._expected = [
            _Expected(
                column,
                (column.key.role.value, column.key.group, column.key.key),
                tensors.to_wire_dtype(column.dtype),
                column.dtype.newbyteorder("<"),
                column.dtype == np.bool_,
                column.key.role == Role.REWARD,
                column.key.role in _OBSERVED and column.dtype.kind == "f",
            )
            for column in columns
        ]

    def rows_and_slots(
        self, messages: Sequence[trajectory_pb2.Column], rows: int, slots: int
    ) -> Columns:
        """Read-only arrays over the messages' own bytes, shaped as the columns' extents say.

        Raises:
            InvalidFieldError: A column is missing, unasked for, there twice or out of order, or has
                another dtype, shape or byte count than its spec. The field begins with `columns`.
        """
        return self._decode(
            messages, [each.spec.extent.leading(rows, slots) for each in self._expected]
        )

    def entries(self, messages: Sequence[trajectory_pb2.Column], count: int) -> Columns:
        """The same for columns of `count` single entries: arrays `[count, ...]`."""
        return self._decode(messages, [(count,)] * len(self._expected))

    def _decode(
        self, messages: Sequence[trajectory_pb2.Column], leading: Sequence[tuple[int, ...]]
    ) -> Columns:
        addresses = [(message.role, message.group, message.key) for message in messages]
        if addresses != [each.address for each in self._expected]:
            self._refuse(addresses)
        found: Columns = {}
        for i, (expected, message) in enumerate(zip(self._expected, messages, strict=True)):
            try:
                found[expected.spec.key] = _array(
                    message, expected, leading[i] + expected.spec.shape
                )
            except InvalidFieldError as error:
                raise error.under(f"columns[{i}].tensor") from None
        return found

    def _refuse(self, addresses: Sequence[tuple[int, str, str]]) -> None:
        """Says what is wrong with addresses that are not the expected ones."""
        counts = collections.Counter(addresses)
        wanted = [each.address for each in self._expected]
        for i, address in enumerate(addresses):
            if address not in wanted:
                raise InvalidFieldError(
                    f"columns[{i}]", f"{_name(address)} is no column of the signature; leave it out"
                )
            if counts[address] > 1:
                raise InvalidFieldError(
                    f"columns[{i}]", f"{_name(address)} stands there {counts[address]} times"
                )
        missing = [_name(address) for address in wanted if address not in counts]
        if missing:
            raise InvalidFieldError("columns", f"without {', '.join(missing)}; push every column")
        order = ", ".join(_name(address) for address in wanted)
        raise InvalidFieldError("columns", f"out of order; the signature's is {order}")


def _name(address: tuple[int, str, str]) -> str:
    role, group, key = address
    if role in set(Role):
        return str(ColumnKey(Role(role), group, key))
    return f"a column of the unknown role {role}"


def _array(
    message: trajectory_pb2.Column, expected: _Expected, shape: tuple[int, ...]
) -> NDArray[Any]:
    """The codec of `common.tensors`, for a dtype and shape that are known beforehand.

    Reading `data` copies it out of the message: it is read once.
    """
    tensor = message.tensor
    if tensor.dtype != expected.wire:
        _refuse_array("dtype", _dtype_name(tensor.dtype), expected, expected.spec.dtype.name)
    if tuple(tensor.shape) != shape:
        _refuse_array("shape", list(tensor.shape)[:8], expected, list(shape))
    data = tensor.data
    size = math.prod(shape) * expected.dtype.itemsize
    if len(data) != size:
        _refuse_array("data", f"{len(data)} bytes", expected, f"{list(shape)} of {size} bytes")
    array: NDArray[Any] = np.frombuffer(data, np.uint8 if expected.is_bool else expected.dtype)
    if expected.is_bool:
        if array.size and array.max() > 1:
            _refuse_array("data", f"a bool of {array.max()}", expected, "0 or 1")
        array = array.view(np.bool_)
    elif expected.is_reward and not np.isfinite(array).all():
        _refuse_numbers("NaN or infinite", expected)
    elif expected.is_observed and np.isnan(array).any():
        _refuse_numbers("NaN", expected)
    return array.reshape(shape)


def _refuse_array(field: str, found: object, expected: _Expected, wanted: object) -> NoReturn:
    raise InvalidFieldError(field, f"{found}, but {expected.spec.key} of this batch is {wanted}")


def _refuse_numbers(found: str, expected: _Expected) -> NoReturn:
    raise InvalidFieldError(
        "data",
        f"{expected.spec.key} is {found} somewhere; nobody can learn from that: mend the "
        "environment, or wrap it",
    )


def _dtype_name(wire: int) -> str:
    try:
        return tensors.from_wire_dtype(wire).name
    except InvalidFieldError:
        return f"unknown dtype {wire}"


def write(target: Columns, source: Columns, specs: Iterable[ColumnSpec], slots: Any) -> None:  # noqa: ANN401 - any NumPy index
    """Copies `source` of B slots to the positions `slots` (a slice or a list) of `target`."""
    for spec in specs:
        if spec.extent == Extent.INITIAL:
            target[spec.key][slots] = source[spec.key]
        else:
            target[spec.key][:, slots] = source[spec.key]
