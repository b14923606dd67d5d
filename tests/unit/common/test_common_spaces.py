from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common import spaces, tensors
from common.errors import InvalidFieldError
from protos.wiserl.v1 import space_pb2, tensor_pb2

I64 = 2**63


@st.composite
def boxes(draw):
    dtype = np.dtype(draw(st.sampled_from(["uint8", "int64", "float16", "float32", "float64"])))
    numbers = st.from_type(float) if dtype.kind == "f" else st.integers(0, 200)
    if dtype.kind == "f":
        numbers = st.floats(allow_nan=False, width=dtype.itemsize * 8)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    first, second = (draw(hnp.arrays(dtype, shape, elements=numbers)) for _ in range(2))
    return spaces.Box(np.minimum(first, second), np.maximum(first, second))


starts = st.integers(-I64, I64 - 1 - spaces.MAX_ACTIONS)
counts = st.integers(1, 1000)
leaves = st.one_of(
    boxes(),
    st.builds(spaces.Discrete, counts, starts),
    st.lists(st.tuples(counts, starts), min_size=1, max_size=5).map(
        lambda pairs: spaces.MultiDiscrete(*zip(*pairs, strict=True))
    ),
    st.builds(spaces.MultiBinary, st.lists(st.integers(0, 5), max_size=3).map(tuple)),
)
keys = st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1, max_size=5)
any_space = st.recursive(
    leaves,
    lambda inner: st.builds(spaces.Dict, st.dictionaries(keys, inner, min_size=1, max_size=3)),
    max_leaves=6,
)

numbers = st.one_of(
    st.integers(0, 5), st.sampled_from([1 << 20, (1 << 20) + 1, 2**31, 2**63, 2**64 - 1])
)
signed = st.one_of(st.integers(-5, 5), st.sampled_from([-I64, I64 - 1]))
tensor_messages = st.builds(
    tensor_pb2.Tensor,
    dtype=st.integers(0, 13),
    shape=st.lists(numbers, max_size=3),
    data=st.binary(max_size=16),
)
messages = st.recursive(
    st.one_of(
        st.builds(space_pb2.Space),
        st.builds(
            space_pb2.Space,
            box=st.builds(space_pb2.BoxSpace, low=tensor_messages, high=tensor_messages),
        ),
        st.builds(
            space_pb2.Space, discrete=st.builds(space_pb2.DiscreteSpace, n=numbers, start=signed)
        ),
        st.builds(
            space_pb2.Space,
            multi_discrete=st.builds(
                space_pb2.MultiDiscreteSpace,
                n=st.lists(numbers, max_size=3),
                start=st.lists(signed, max_size=3),
            ),
        ),
        st.builds(
            space_pb2.Space,
            multi_binary=st.builds(space_pb2.MultiBinarySpace, shape=st.lists(numbers, max_size=3)),
        ),
    ),
    lambda inner: st.builds(
        space_pb2.Space,
        dict=st.builds(
            space_pb2.DictSpace,
            entries=st.lists(
                st.builds(
                    space_pb2.DictEntry, key=st.sampled_from(["", "a", "b", "x/y"]), space=inner
                ),
                max_size=3,
            ),
        ),
    ),
    max_leaves=5,
)


def refusal(message: space_pb2.Space) -> InvalidFieldError:
    with pytest.raises(InvalidFieldError) as caught:
        spaces.from_proto(message)
    return caught.value


def box(low: object, high: object) -> space_pb2.Space:
    message = space_pb2.Space()
    message.box.low.CopyFrom(tensors.encode(np.asarray(low)))
    message.box.high.CopyFrom(tensors.encode(np.asarray(high)))
    return message


def nested(depth: int) -> space_pb2.Space:
    message = space_pb2.Space(discrete=space_pb2.DiscreteSpace(n=2))
    for _ in range(depth):
        entry = space_pb2.DictEntry(key="k", space=message)
        message = space_pb2.Space(dict=space_pb2.DictSpace(entries=[entry]))
    return message


@hypothesis.given(any_space)
def test_a_space_comes_back_equal(space):
    message = space_pb2.Space.FromString(spaces.to_proto(space).SerializeToString())
    assert spaces.from_proto(message) == space


@hypothesis.given(any_space)
def test_a_space_that_came_back_encodes_to_the_same_bytes(space):
    message = spaces.to_proto(space)
    again = spaces.to_proto(spaces.from_proto(message))
    assert again.SerializeToString(deterministic=True) == message.SerializeToString(
        deterministic=True
    )


@hypothesis.given(messages)
def test_a_random_message_is_a_space_or_is_refused_by_name(message):
    try:
        space = spaces.from_proto(message)
    except InvalidFieldError as error:
        assert error.field.split(".")[0] in {
            "kind",
            "box",
            "discrete",
            "multi_discrete",
            "multi_binary",
            "dict",
        }
    else:
        assert spaces.from_proto(spaces.to_proto(space)) == space


def test_values_have_the_shape_and_dtype_of_their_space():
    assert (spaces.Discrete(3).shape, spaces.Discrete(3).dtype) == ((), np.dtype("int64"))
    assert (spaces.MultiDiscrete((2, 3)).shape, spaces.MultiDiscrete((2, 3)).start) == (
        (2,),
        (0, 0),
    )
    assert spaces.MultiBinary((2, 2)).dtype == np.dtype("int8")
    image = spaces.Box(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
    assert (image.shape, image.dtype, image.is_bounded) == ((4, 4), np.dtype("uint8"), True)
    assert not spaces.Box(np.float32([-np.inf]), np.float32([1])).is_bounded


def test_boxes_differ_by_dtype_shape_and_bounds():
    ours = spaces.Box(np.zeros(2), np.ones(2))
    assert ours == spaces.Box(np.zeros(2), np.ones(2))
    assert ours != spaces.Box(np.zeros(2, np.float32), np.ones(2, np.float32))
    assert ours != spaces.Box(np.zeros(3), np.ones(3))
    assert ours != spaces.Box(np.zeros(2), np.full(2, 2.0))
    assert ours != spaces.Discrete(2)


def test_leaves_are_addressed_by_their_keys_joined():
    space = spaces.Dict(
        {
            "b": spaces.Discrete(2),
            "a": spaces.Dict({"y": spaces.MultiBinary((1,)), "x": spaces.Discrete(3)}),
        }
    )
    assert list(spaces.leaves(space)) == ["a/x", "a/y", "b"]
    assert spaces.leaves(spaces.Discrete(2)) == {"": spaces.Discrete(2)}


def test_a_dict_is_sorted_by_the_bytes_of_its_keys():
    space = spaces.Dict(
        {key: spaces.Discrete(2) for key in ["é", "Z", "a", "\U0001f600", "\uffff"]}
    )
    keys = [entry.key for entry in spaces.to_proto(space).dict.entries]
    assert keys == sorted(keys, key=lambda key: key.encode())


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (space_pb2.Space(), "kind"),
        (box([0.0], [np.nan]), "box.low"),
        (box([2.0], [1.0]), "box.low"),
        (box([0.0], [1.0, 1.0]), "box.high"),
        (box([0], [1.0]), "box.high"),
        (space_pb2.Space(box=space_pb2.BoxSpace()), "box.low.dtype"),
        (space_pb2.Space(discrete=space_pb2.DiscreteSpace()), "discrete.n"),
        (space_pb2.Space(discrete=space_pb2.DiscreteSpace(n=(1 << 20) + 1)), "discrete.n"),
        (space_pb2.Space(discrete=space_pb2.DiscreteSpace(n=2, start=I64 - 1)), "discrete.n"),
        (space_pb2.Space(multi_discrete=space_pb2.MultiDiscreteSpace()), "multi_discrete.start"),
        (
            space_pb2.Space(multi_discrete=space_pb2.MultiDiscreteSpace(n=[2, 2], start=[1])),
            "multi_discrete.start",
        ),
        (
            space_pb2.Space(multi_discrete=space_pb2.MultiDiscreteSpace(n=[2, 0])),
            "multi_discrete.n",
        ),
        (
            space_pb2.Space(multi_discrete=space_pb2.MultiDiscreteSpace(n=[1 << 20, 1])),
            "multi_discrete.n",
        ),
        (
            space_pb2.Space(multi_binary=space_pb2.MultiBinarySpace(shape=[2**31, 2**31])),
            "multi_binary.shape",
        ),
        (
            space_pb2.Space(multi_binary=space_pb2.MultiBinarySpace(shape=[2**63, 2**63])),
            "multi_binary.shape",
        ),
        (space_pb2.Space(dict=space_pb2.DictSpace()), "dict.entries"),
    ],
)
def test_a_malformed_space_is_named(message, field):
    assert refusal(message).field == field


@pytest.mark.parametrize("keys", [["b", "a"], ["a", "a"]])
def test_keys_out_of_order_or_twice_are_named(keys):
    entries = [space_pb2.DictEntry(key=key, space=nested(0)) for key in keys]
    message = space_pb2.Space(dict=space_pb2.DictSpace(entries=entries))
    assert refusal(message).field == "dict.entries"


@pytest.mark.parametrize("key", ["", "a/b"])
def test_a_key_that_could_not_be_joined_is_named(key):
    entries = [space_pb2.DictEntry(key=key, space=nested(0))]
    message = space_pb2.Space(dict=space_pb2.DictSpace(entries=entries))
    assert refusal(message).field == "dict.entries.key"


def test_an_error_inside_a_dict_says_under_which_keys():
    inner = space_pb2.DictEntry(key="inner", space=space_pb2.Space())
    outer = space_pb2.Space(dict=space_pb2.DictSpace(entries=[inner]))
    entry = space_pb2.DictEntry(key="outer", space=outer)
    message = space_pb2.Space(dict=space_pb2.DictSpace(entries=[entry]))
    assert refusal(message).field == "dict.entries[outer].space.dict.entries[inner].space.kind"


def test_dicts_nest_to_the_limit_and_no_deeper():
    assert len(spaces.leaves(spaces.from_proto(nested(spaces.MAX_DEPTH)))) == 1
    assert refusal(nested(spaces.MAX_DEPTH + 1)).field.endswith("dict")


def test_leaves_are_limited_in_one_dict_and_over_several():
    def wide(count: int) -> space_pb2.Space:
        entries = [space_pb2.DictEntry(key=f"{i:04}", space=nested(0)) for i in range(count)]
        return space_pb2.Space(dict=space_pb2.DictSpace(entries=entries))

    assert len(spaces.leaves(spaces.from_proto(wide(spaces.MAX_LEAVES)))) == spaces.MAX_LEAVES
    assert refusal(wide(spaces.MAX_LEAVES + 1)).field == "dict.entries"
    halves = [space_pb2.DictEntry(key=key, space=wide(200)) for key in "ab"]
    assert refusal(space_pb2.Space(dict=space_pb2.DictSpace(entries=halves))).field == "dict"
