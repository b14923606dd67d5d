"""The policy signature: what a graph is fed, what it answers, what is recorded."""

from __future__ import annotations

import collections
import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from common import tensors
from common.errors import InvalidFieldError
from protos.wiserl.v1 import signature_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray


class Role(enum.IntEnum):
    """What a tensor is for; the numbers and meanings are those of `wiserl.v1.Role`."""

    OBSERVATION = 1
    ACTION_MASK = 2
    STATE = 3
    RESET = 4
    NOISE = 5
    SCALAR = 6
    ACTION = 7
    GREEDY_ACTION = 8
    NEXT_STATE = 9
    RECORD = 10
    REWARD = 11
    TERMINATED = 12
    TRUNCATED = 13
    IS_FIRST = 14
    VALID = 15
    EPISODE_END = 16
    ALIVE = 17
    GLOBAL_STATE = 18


INPUT_ROLES = frozenset(Role(number) for number in range(1, 7))
OUTPUT_ROLES = frozenset(Role(number) for number in range(7, 11))
COLUMN_ROLES = frozenset(Role) - {
    Role.RESET,
    Role.NOISE,
    Role.SCALAR,
    Role.GREEDY_ACTION,
    Role.NEXT_STATE,
}


class Extent(enum.IntEnum):
    """How many rows a column has in a batch of T rows and B slots."""

    ROWS = 1
    ROWS_PLUS_ONE = 2
    INITIAL = 3

    def leading(self, rows: int, slots: int) -> tuple[int, ...]:
        """The leading dimensions: `(T, B)`, `(T + 1, B)` or `(B,)`."""
        match self:
            case Extent.ROWS:
                return (rows, slots)
            case Extent.ROWS_PLUS_ONE:
                return (rows + 1, slots)
            case Extent.INITIAL:
                return (slots,)


class Noise(enum.IntEnum):
    """From which distribution each element of a noise input is drawn."""

    STANDARD_NORMAL = 1
    OPEN_UNIFORM = 2


@dataclasses.dataclass(frozen=True)
class ColumnKey:
    """The address of a column: role, agent group, key."""

    role: Role
    group: str = ""
    key: str = ""

    def __str__(self) -> str:
        """As people read it, such as `record/log_prob`."""
        return "/".join(part for part in (self.role.name.lower(), self.group, self.key) if part)


@dataclasses.dataclass(frozen=True)
class GraphTensor:
    """What inputs and outputs of a graph share.

    Attributes:
        name: The tensor's name in the graph.
        role: What it is for.
        dtype: Its element type.
        shape: Without the leading environment dimension, with the agent axis where there is one.
        group: The agent group; empty for a single agent.
        key: Which of several of the same role and group.
    """

    name: str
    role: Role
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    group: str = ""
    key: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class GraphInput(GraphTensor):
    """An input; `noise` for NOISE, `initial_state` (of `shape`) for STATE, else None."""

    noise: Noise | None = None
    initial_state: NDArray[Any] | None = None


@dataclasses.dataclass(frozen=True)
class GraphOutput(GraphTensor):
    """An output."""


@dataclasses.dataclass(frozen=True)
class ColumnSpec:
    """A column that every trajectory batch has; `shape` is one entry's."""

    key: ColumnKey
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    extent: Extent = Extent.ROWS


@dataclasses.dataclass(frozen=True)
class Signature:
    """The graph's inputs and outputs, and the columns of every batch."""

    inputs: tuple[GraphInput, ...]
    outputs: tuple[GraphOutput, ...]
    columns: tuple[ColumnSpec, ...]

    def inputs_of(self, role: Role) -> tuple[GraphInput, ...]:
        """The inputs of a role."""
        return tuple(tensor for tensor in self.inputs if tensor.role == role)

    def outputs_of(self, role: Role) -> tuple[GraphOutput, ...]:
        """The outputs of a role."""
        return tuple(tensor for tensor in self.outputs if tensor.role == role)


def to_proto(signature: Signature) -> signature_pb2.Signature:
    """The signature as a message."""
    message = signature_pb2.Signature()
    for tensor in signature.inputs:
        added = message.inputs.add(**_tensor_fields(tensor))
        if tensor.noise is not None:
            added.noise = tensor.noise.value  # type: ignore[assignment]
        if tensor.initial_state is not None:
            added.initial_state.CopyFrom(tensors.encode(tensor.initial_state))
    for output in signature.outputs:
        message.outputs.add(**_tensor_fields(output))
    for column in signature.columns:
        message.columns.add(
            role=column.key.role.value,
            group=column.key.group,
            key=column.key.key,
            dtype=tensors.to_wire_dtype(column.dtype),
            shape=column.shape,
            extent=column.extent.value,
        )
    return message


def _tensor_fields(tensor: GraphTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "role": tensor.role.value,
        "group": tensor.group,
        "key": tensor.key,
        "dtype": tensors.to_wire_dtype(tensor.dtype),
        "shape": tensor.shape,
    }


def from_proto(message: signature_pb2.Signature) -> Signature:
    """The signature of a message.

    Raises:
        InvalidFieldError: A role that an input, output or column cannot have, an unknown dtype or
            a shape that overflows, two tensors or columns of the same address, a noise input
            without a distribution, a state without an initial value or without its next value.
    """
    inputs = tuple(_input(tensor, f"inputs[{i}]") for i, tensor in enumerate(message.inputs))
    outputs = tuple(
        GraphOutput(**_from_fields(tensor, OUTPUT_ROLES, f"outputs[{i}]"))
        for i, tensor in enumerate(message.outputs)
    )
    columns = tuple(_column(column, f"columns[{i}]") for i, column in enumerate(message.columns))
    sides: tuple[tuple[str, tuple[GraphTensor, ...]], ...]
    sides = (("inputs", inputs), ("outputs", outputs))
    for field, side in sides:
        _refuse_twins(field, (tensor.name for tensor in side))
        _refuse_twins(field, (ColumnKey(each.role, each.group, each.key) for each in side))
    _refuse_twins("columns", (column.key for column in columns))
    states = {(tensor.group, tensor.key) for tensor in inputs if tensor.role == Role.STATE}
    following = {(tensor.group, tensor.key) for tensor in outputs if tensor.role == Role.NEXT_STATE}
    if states != following:
        raise InvalidFieldError(
            "outputs", f"next states {following} do not match the states {states}"
        )
    return Signature(inputs, outputs, columns)


def _refuse_twins(field: str, addresses: Iterable[str | ColumnKey]) -> None:
    counts = collections.Counter(addresses)
    twins = [address for address, count in counts.items() if count > 1]
    if twins:
        raise InvalidFieldError(field, f"{', '.join(map(str, twins))} stands there more than once")


def _element(
    message: signature_pb2.GraphInput | signature_pb2.GraphOutput | signature_pb2.ColumnSpec,
    field: str,
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Dtype and shape of one entry, of a size that can be."""
    try:
        dtype, shape = tensors.from_wire_dtype(message.dtype), tuple(message.shape)
        tensors.size_in_bytes(dtype, shape)
    except InvalidFieldError as error:
        raise error.under(field) from None
    return dtype, shape


def _role(number: int, allowed: frozenset[Role], field: str) -> Role:
    if number not in allowed:
        names = ", ".join(role.name for role in sorted(allowed))
        raise InvalidFieldError(f"{field}.role", f"{number} is none of {names}")
    return Role(number)


def _from_fields(
    message: signature_pb2.GraphInput | signature_pb2.GraphOutput,
    roles: frozenset[Role],
    field: str,
) -> dict[str, Any]:
    if not message.name:
        raise InvalidFieldError(f"{field}.name", "is empty; give the tensor's name in the graph")
    dtype, shape = _element(message, field)
    return {
        "name": message.name,
        "role": _role(message.role, roles, field),
        "dtype": dtype,
        "shape": shape,
        "group": message.group,
        "key": message.key,
    }


def _input(message: signature_pb2.GraphInput, field: str) -> GraphInput:
    fields = _from_fields(message, INPUT_ROLES, field)
    noise, initial = None, None
    if fields["role"] == Role.NOISE:
        if int(message.noise) not in {noise.value for noise in Noise}:
            raise InvalidFieldError(f"{field}.noise", "a noise input needs a distribution")
        noise = Noise(message.noise)
    if fields["role"] == Role.STATE:
        try:
            initial = tensors.decode(message.initial_state)
        except InvalidFieldError as error:
            raise error.under(f"{field}.initial_state") from None
        if initial.shape != fields["shape"] or initial.dtype != fields["dtype"]:
            raise InvalidFieldError(
                f"{field}.initial_state",
                f"{initial.dtype} {initial.shape} is not the state's dtype and shape",
            )
    return GraphInput(**fields, noise=noise, initial_state=initial)


def _column(message: signature_pb2.ColumnSpec, field: str) -> ColumnSpec:
    role = _role(message.role, COLUMN_ROLES, field)
    if int(message.extent) not in {extent.value for extent in Extent}:
        raise InvalidFieldError(f"{field}.extent", f"{message.extent} is no extent")
    dtype, shape = _element(message, field)
    key = ColumnKey(role, message.group, message.key)
    return ColumnSpec(key, dtype, shape, Extent(message.extent))
