"""An exported model as bytes with the places where its tensors lie, to be written over and sent.

A publication changes numbers and nothing else, so the model is serialised once and patched from
then on: a copy of the bytes in place of a walk through protobuf objects, and no need for the onnx
package.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from common.errors import WiseRLError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

# Field numbers of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9

_DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class TemplateError(WiseRLError):
    """Bytes that are no model whose tensors can be written over."""


class Slot(NamedTuple):
    """Where a tensor lies.

    Attributes:
        bytes: A view of the model, uint8.
        shape: Of the tensor.
        dtype: Of the tensor.
    """

    bytes: Tensor
    shape: tuple[int, ...]
    dtype: torch.dtype


class Template:
    """A model whose initialisers can be written over by name.

    Attributes:
        slots: The initialisers, by name.

    Raises:
        TemplateError: The bytes are no ONNX model, or an initialiser's data are not raw bytes in
        it.
    """

    def __init__(self, model: bytes) -> None:
        self._model = bytearray(model)
        self.slots: dict[str, Slot] = {}
        try:
            self._find_slots(memoryview(model))
        except (IndexError, ValueError) as error:
            raise TemplateError(f"not an ONNX model: {error}") from error

    def fill(self, tensors: Mapping[str, Tensor]) -> bytes:
        """The model with these tensors in it; those that it does not have are left out.

        Raises:
            TemplateError: A tensor of another shape or dtype than the model's.
        """
        for name, slot in self.slots.items():
            tensor = tensors.get(name)
            if tensor is None:
                continue
            if tuple(tensor.shape) != slot.shape or tensor.dtype != slot.dtype:
                raise TemplateError(
                    f"{name} is {tensor.dtype} {tuple(tensor.shape)}, but was exported as "
                    f"{slot.dtype} {slot.shape}; a policy keeps its structure for a whole run"
                )
            slot.bytes.copy_(tensor.detach().contiguous().view(-1).view(torch.uint8))
        return bytes(self._model)

    def _find_slots(self, model: memoryview) -> None:
        every = torch.frombuffer(self._model, dtype=torch.uint8)
        for graph_start, graph in _messages(model, 0, _MODEL_GRAPH):
            for start, tensor in _messages(graph, graph_start, _GRAPH_INITIALIZER):
                name, shape, dtype, offset, size = _tensor(tensor, start)
                if size != math.prod(shape) * dtype.itemsize:
                    raise TemplateError(f"{name} has {size} raw bytes for {dtype} {shape}")
                self.slots[name] = Slot(every[offset : offset + size], shape, dtype)


def _messages(message: memoryview, start: int, number: int) -> Iterator[tuple[int, memoryview]]:
    """The submessages of a field, with where they begin in the model."""
    for field, wire, value, offset in _fields(message):
        if field == number and wire == _BYTES:
            yield start + offset, value


def _tensor(message: memoryview, start: int) -> tuple[str, tuple[int, ...], torch.dtype, int, int]:
    """Name, shape, dtype, and offset and size of the raw data of a TensorProto."""
    name, shape, code, raw_offset, raw_size = "", [], 0, 0, 0
    for field, _, value, offset in _fields(message):
        if field == _TENSOR_NAME:
            name = bytes(value).decode()
        elif field == _TENSOR_RAW:
            raw_offset, raw_size = start + offset, len(value)
        elif field == _TENSOR_TYPE:
            code, _ = _varint(value, 0)
        elif field == _TENSOR_DIMS:
            # Packed or one by one: either way a row of varints.
            position = 0
            while position < len(value):
                size, position = _varint(value, position)
                shape.append(size)
    if code not in _DTYPES:
        raise TemplateError(f"{name} is of the ONNX data type {code}, which no policy may have")
    return name, tuple(shape), _DTYPES[code], raw_offset, raw_size


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview, int]]:
    """Field number, wire type, value and its offset; https://protobuf.dev/programming-guides/encoding."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire, start = tag & 7, position
        if wire == _VARINT:
            _, end = _varint(message, start)
        elif wire == _BYTES:
            size, start = _varint(message, start)
            end = start + size
        elif wire in {_FIXED64, _FIXED32}:
            end = start + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if end > len(message):
            raise ValueError(f"a field ends {end - len(message)} bytes behind its message")
        yield tag >> 3, wire, message[start:end], start
        position = end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A variable-length integer and the position behind it."""
    value, shift = 0, 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
