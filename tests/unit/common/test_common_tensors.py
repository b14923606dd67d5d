from __future__ import annotations

import tracemalloc

import hypothesis
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common import tensors
from common.errors import InvalidFieldError
from protos.wiserl.v1 import tensor_pb2

NAMES = [name.removeprefix("DATA_TYPE_").lower() for name in tensor_pb2.DataType.keys()[1:]]

dtypes = st.sampled_from(NAMES).map(np.dtype)
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
dimensions = st.one_of(st.integers(0, 4), st.sampled_from([2**31, 2**32, 2**62, 2**64 - 1]))
messages = st.builds(
    tensor_pb2.Tensor,
    dtype=st.integers(-1, 14),
    shape=st.lists(dimensions, max_size=5),
    data=st.binary(max_size=64),
)


def refusal(message: tensor_pb2.Tensor) -> InvalidFieldError:
    with pytest.raises(InvalidFieldError) as caught:
        tensors.decode(message)
    return caught.value


@hypothesis.given(arrays)
def test_an_array_comes_back_bit_for_bit(array):
    message = tensor_pb2.Tensor.FromString(tensors.encode(array).SerializeToString())
    decoded = tensors.decode(message)
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    assert decoded.tobytes() == array.tobytes()


@hypothesis.given(arrays)
def test_the_message_holds_the_product_of_the_shape(array):
    message = tensors.encode(array)
    assert len(message.data) == array.size * array.dtype.itemsize
    assert tensors.size_in_bytes(array.dtype, array.shape) == len(message.data)


@pytest.mark.parametrize("layout", ["transposed", "strided", "big-endian", "fortran"])
def test_any_layout_travels_in_c_order_and_little_endian(layout):
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    array = {
        "transposed": array.T,
        "strided": array[::2, ::-1],
        "big-endian": array.astype(">i4"),
        "fortran": np.asfortranarray(array),
    }[layout]
    message = tensors.encode(array)
    assert message.data == np.ascontiguousarray(array, dtype="<i4").tobytes()
    assert np.array_equal(tensors.decode(message), array)


def test_known_bytes():
    assert tensors.encode(np.array([[1.0, -2.0]], np.float32)) == tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1, 2], data=bytes.fromhex("0000803f000000c0")
    )
    assert tensors.encode(np.array([True, False])).data == b"\x01\x00"
    assert tensors.encode(np.uint16(258)).data == b"\x02\x01"


@pytest.mark.parametrize("name", NAMES)
def test_every_dtype_of_the_contract_has_a_codec_of_the_width_its_name_says(name):
    wire = tensor_pb2.DataType.Value(f"DATA_TYPE_{name.upper()}")
    bits = int("".join(filter(str.isdigit, name)) or 8)
    assert tensors.to_wire_dtype(name) == wire
    assert tensors.from_wire_dtype(wire) == np.dtype(name)
    assert tensors.from_wire_dtype(wire).itemsize * 8 == bits


@pytest.mark.parametrize("dtype", [object, "U5", "S3", np.complex64, "datetime64[s]", "V4"])
def test_a_dtype_without_a_counterpart_is_refused(dtype):
    with pytest.raises(InvalidFieldError) as caught:
        tensors.to_wire_dtype(dtype)
    assert caught.value.field == "dtype"


def test_a_decoded_array_cannot_be_written_to():
    assert not tensors.decode(tensors.encode(np.zeros(3))).flags.writeable


@pytest.mark.parametrize("number", [0, 13, 99])
def test_an_unknown_dtype_is_named(number):
    assert refusal(tensor_pb2.Tensor(dtype=number, shape=[0])).field == "dtype"  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 3, 5, 8])
def test_too_few_and_too_many_bytes_are_named(size):
    message = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1], data=bytes(size))
    error = refusal(message)
    assert error.field == "data"
    assert str(size) in error.description
    assert "4" in error.description


@pytest.mark.parametrize("byte", [2, 128, 255])
def test_a_bool_that_is_neither_0_nor_1_is_named(byte):
    message = tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_BOOL, shape=[3], data=bytes([0, byte, 1])
    )
    assert refusal(message).field == "data"


@pytest.mark.parametrize(
    "shape", [[2**31, 2**31, 4], [2**63], [2**64 - 1, 2**64 - 1], [0, 2**63], [2**62, 0, 8]]
)
def test_a_shape_that_overflows_is_named(shape):
    message = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=shape)
    assert refusal(message).field == "shape"


def test_too_many_dimensions_are_named():
    message = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=[1] * 33, data=b"1")
    assert refusal(message).field == "shape"


@pytest.mark.parametrize("dtype", [tensor_pb2.DATA_TYPE_UINT8, tensor_pb2.DATA_TYPE_FLOAT64])
def test_nothing_is_allocated_for_a_declared_size(dtype):
    message = tensor_pb2.Tensor(dtype=dtype, shape=[2**31, 2**31], data=b"few")
    refusal(message)  # first use: caches of the interpreter
    tracemalloc.start()
    try:
        refusal(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@hypothesis.given(messages)
def test_a_random_message_decodes_to_its_own_bytes_or_is_refused_by_name(message):
    try:
        array = tensors.decode(message)
    except InvalidFieldError as error:
        assert error.field in {"dtype", "shape", "data"}
        assert error.description
    else:
        assert array.shape == tuple(message.shape)
        assert array.tobytes() == message.data


@hypothesis.given(st.binary(max_size=200))
def test_random_bytes_are_refused_by_protobuf_or_by_name(data):
    try:
        message = tensor_pb2.Tensor.FromString(data)
    except DecodeError:
        return
    try:
        tensors.decode(message)
    except InvalidFieldError as error:
        assert error.field in {"dtype", "shape", "data"}


def test_an_error_tells_where_it_stands_in_an_outer_message():
    error = refusal(tensor_pb2.Tensor(dtype=1, shape=[2], data=b"1")).under("columns[3].tensor")
    assert error.field == "columns[3].tensor.data"
    assert str(error) == f"columns[3].tensor.data: {error.description}"
    assert InvalidFieldError("", "wrong").under("batch").field == "batch"
