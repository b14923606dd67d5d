"""The tensor codec: NumPy arrays to `Tensor` messages and back, with every size checked first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import InvalidFieldError
from protos.wiserl.v1 import tensor_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
_SIGNED = ("int8", "int16", "int32", "int64")
_NAMES = ("bool", *_UNSIGNED, *_SIGNED, "float16", "float32", "float64")
_NUMPY_OF: dict[int, np.dtype[Any]] = {
    tensor_pb2.DataType.Value(f"DATA_TYPE_{name.upper()}"): np.dtype(name).newbyteorder("<")
    for name in _NAMES
}
_WIRE_OF = {dtype.newbyteorder("="): wire for wire, dtype in _NUMPY_OF.items()}

MAX_DIMENSIONS = 32
"""NumPy itself takes 64; nothing of this field has more than 6."""

_MAX_BYTES = 2**63 - 1


def to_wire_dtype(dtype: np.dtype[Any] | type[Any] | str) -> tensor_pb2.DataType.ValueType:
    """The wire's name of a NumPy dtype.

    Raises:
        InvalidFieldError: The dtype has no counterpart (objects, strings, complex numbers).
    """
    resolved = np.dtype(dtype).newbyteorder("=")
    if resolved not in _WIRE_OF:
        raise InvalidFieldError(
            "dtype", f"{resolved} cannot travel; use one of {', '.join(_NAMES)}"
        )
    return _WIRE_OF[resolved]  # type: ignore[return-value]


def from_wire_dtype(dtype: int) -> np.dtype[Any]:
    """The NumPy dtype (little-endian) of the wire's.

    Raises:
        InvalidFieldError: Unspecified, or a number that the contract does not have.
    """
    if dtype not in _NUMPY_OF:
        raise InvalidFieldError("dtype", f"{dtype} is no DataType; use one of {', '.join(_NAMES)}")
    return _NUMPY_OF[dtype]


def encode(array: Array | np.generic | float) -> tensor_pb2.Tensor:
    """Copies an array of any layout into a message."""
    array = np.asarray(array)
    wire = to_wire_dtype(array.dtype)
    little = np.ascontiguousarray(array, dtype=_NUMPY_OF[wire])
    return tensor_pb2.Tensor(dtype=wire, shape=array.shape, data=little.tobytes())


def size_in_bytes(dtype: np.dtype[Any], shape: Sequence[int], field: str = "shape") -> int:
    """The bytes that a dense array takes, computed without allocating anything.

    Raises:
        InvalidFieldError: Too many dimensions, a negative one, or a product (of the dimensions that
            are not 0) beyond 2^63 - 1 bytes.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidFieldError(
            field, f"{len(shape)} dimensions exceed the limit of {MAX_DIMENSIONS}"
        )
    if any(size < 0 for size in shape):
        raise InvalidFieldError(field, f"{list(shape)} has a negative dimension")
    # A 0 hides no other dimension: NumPy cannot hold [0, 2^62, 4] either.
    if math.prod(size or 1 for size in shape) * dtype.itemsize > _MAX_BYTES:
        raise InvalidFieldError(
            field, f"{list(shape)} of {dtype.name} is larger than 2^63 - 1 bytes"
        )
    return math.prod(shape) * dtype.itemsize


def decode(tensor: tensor_pb2.Tensor) -> Array:
    """A read-only array over the message's bytes, which reading them copies once.

    Raises:
        InvalidFieldError: An unknown dtype, a shape whose product overflows, a byte count that is
            not that of the shape, or a bool that is neither 0 nor 1. The field is relative to the
            tensor.
    """
    dtype = from_wire_dtype(tensor.dtype)
    shape = tuple(tensor.shape)
    expected = size_in_bytes(dtype, shape)
    data = tensor.data
    if expected != len(data):
        raise InvalidFieldError(
            "data",
            f"{len(data)} bytes, but shape {list(shape)} of {dtype.name} takes {expected}",
        )
    raw = np.frombuffer(data, dtype=np.uint8 if dtype == np.bool_ else dtype)
    if dtype == np.bool_:
        if raw.size and raw.max() > 1:
            raise InvalidFieldError("data", f"a bool is {raw.max()}; each must be 0 or 1")
        raw = raw.view(np.bool_)
    return raw.reshape(shape)
