from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from common import signature as sig
from common import tensors
from common.errors import ERROR_DOMAIN, InvalidFieldError, Reason
from protos.wiserl.v1 import signature_pb2 as pb
from protos.wiserl.v1 import tensor_pb2

F32 = tensor_pb2.DATA_TYPE_FLOAT32

keys = st.sampled_from(["", "a", "b/c"])
dtypes = st.sampled_from(["bool", "uint8", "int64", "float32", "float64"]).map(np.dtype)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def any_signature(draw):
    def common(name: str, role: sig.Role, group: str, key: str) -> dict[str, object]:
        return {
            "name": name,
            "role": role,
            "group": group,
            "key": key,
            "dtype": draw(dtypes),
            "shape": draw(shapes),
        }

    addresses = st.tuples(st.sampled_from(sorted(sig.INPUT_ROLES)), keys, keys)
    inputs, outputs = [], []
    for i, address in enumerate(draw(st.lists(addresses, max_size=5, unique=True))):
        fields = common(f"in{i}", *address)
        noise = draw(st.sampled_from(sig.Noise)) if address[0] == sig.Role.NOISE else None
        initial = None
        if address[0] == sig.Role.STATE:
            initial = np.zeros(fields["shape"], fields["dtype"])
            outputs.append(sig.GraphOutput(**{**fields, "role": sig.Role.NEXT_STATE}))
        inputs.append(sig.GraphInput(**fields, noise=noise, initial_state=initial))
    others = st.sampled_from(sorted(sig.OUTPUT_ROLES - {sig.Role.NEXT_STATE}))
    for i, address in enumerate(draw(st.lists(st.tuples(others, keys, keys), unique=True))):
        outputs.append(sig.GraphOutput(**common(f"out{i}", *address)))
    addresses = st.tuples(st.sampled_from(sorted(sig.COLUMN_ROLES)), keys, keys)
    columns = tuple(
        sig.ColumnSpec(
            sig.ColumnKey(*address), draw(dtypes), draw(shapes), draw(st.sampled_from(sig.Extent))
        )
        for address in draw(st.lists(addresses, max_size=5, unique=True))
    )
    return sig.Signature(tuple(inputs), tuple(outputs), columns)


def graph_input(**changes: object) -> pb.GraphInput:
    fields = {"name": "x", "role": pb.ROLE_OBSERVATION, "dtype": F32, "shape": [4], **changes}
    return pb.GraphInput(**fields)  # type: ignore[arg-type]


def graph_output(**changes: object) -> pb.GraphOutput:
    fields = {"name": "a", "role": pb.ROLE_ACTION, "dtype": F32, **changes}
    return pb.GraphOutput(**fields)  # type: ignore[arg-type]


def column(**changes: object) -> pb.ColumnSpec:
    fields = {"role": pb.ROLE_REWARD, "dtype": F32, "extent": pb.EXTENT_ROWS, **changes}
    return pb.ColumnSpec(**fields)  # type: ignore[arg-type]


def state(**changes: object) -> pb.GraphInput:
    initial = tensors.encode(np.zeros(4, np.float32))
    return graph_input(name="h", role=pb.ROLE_STATE, **{"initial_state": initial, **changes})


@hypothesis.given(any_signature())
def test_a_signature_comes_back_equal(signature):
    data = sig.to_proto(signature).SerializeToString()
    received = sig.from_proto(pb.Signature.FromString(data))
    assert received.outputs == signature.outputs
    assert received.columns == signature.columns
    # Inputs hold arrays, so they are compared by what they look like on the wire.
    assert sig.to_proto(received).SerializeToString() == data
    for ours, theirs in zip(signature.inputs, received.inputs, strict=True):
        assert (ours.role, ours.noise, ours.shape) == (theirs.role, theirs.noise, theirs.shape)
        assert np.array_equal(ours.initial_state, theirs.initial_state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (sig.Role, pb.Role, "ROLE_"),
        (sig.Extent, pb.Extent, "EXTENT_"),
        (sig.Noise, pb.NoiseDistribution, "NOISE_DISTRIBUTION_"),
    ],
)
def test_an_enum_is_that_of_the_contract(ours, theirs, prefix):
    contract = {name.removeprefix(prefix): number for name, number in theirs.items() if number}
    assert {member.name: member.value for member in ours} == contract


def test_roles_of_inputs_outputs_and_columns():
    names = {role.name for role in sig.INPUT_ROLES}
    assert names == {"OBSERVATION", "ACTION_MASK", "STATE", "RESET", "NOISE", "SCALAR"}
    names = {role.name for role in sig.OUTPUT_ROLES}
    assert names == {"ACTION", "GREEDY_ACTION", "NEXT_STATE", "RECORD"}
    names = {role.name for role in frozenset(sig.Role) - sig.COLUMN_ROLES}
    assert names == {"RESET", "NOISE", "SCALAR", "GREEDY_ACTION", "NEXT_STATE"}


def test_reasons_are_the_words_of_the_contract():
    assert {reason.value for reason in Reason} == {reason.name for reason in Reason}
    assert ERROR_DOMAIN == "wiserl"


def test_an_extent_gives_the_leading_dimensions():
    assert sig.Extent.ROWS.leading(5, 3) == (5, 3)
    assert sig.Extent.ROWS_PLUS_ONE.leading(5, 3) == (6, 3)
    assert sig.Extent.INITIAL.leading(5, 3) == (3,)


def test_a_column_key_reads_as_an_address():
    assert str(sig.ColumnKey(sig.Role.RECORD, "", "log_prob")) == "record/log_prob"
    assert str(sig.ColumnKey(sig.Role.ACTION, "walker")) == "action/walker"


def test_tensors_are_found_by_role():
    message = pb.Signature(
        inputs=[graph_input(), state()],
        outputs=[graph_output(), graph_output(name="h2", role=pb.ROLE_NEXT_STATE)],
    )
    signature = sig.from_proto(message)
    assert [tensor.name for tensor in signature.inputs_of(sig.Role.STATE)] == ["h"]
    assert [tensor.name for tensor in signature.outputs_of(sig.Role.ACTION)] == ["a"]
    assert signature.inputs_of(sig.Role.NOISE) == ()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.Signature(inputs=[graph_input(role=pb.ROLE_ACTION)]), "inputs[0].role"),
        (pb.Signature(inputs=[graph_input(role=99)]), "inputs[0].role"),
        (pb.Signature(inputs=[graph_input(name="")]), "inputs[0].name"),
        (pb.Signature(inputs=[graph_input(dtype=0)]), "inputs[0].dtype"),
        (pb.Signature(inputs=[graph_input(shape=[2**31, 2**32])]), "inputs[0].shape"),
        (pb.Signature(inputs=[graph_input(role=pb.ROLE_NOISE)]), "inputs[0].noise"),
        (pb.Signature(inputs=[graph_input(role=pb.ROLE_NOISE, noise=9)]), "inputs[0].noise"),
        (pb.Signature(inputs=[graph_input(), graph_input(key="b")]), "inputs"),
        (pb.Signature(inputs=[graph_input(), graph_input(name="y")]), "inputs"),
        (
            pb.Signature(inputs=[state(initial_state=tensor_pb2.Tensor())]),
            "inputs[0].initial_state.dtype",
        ),
        (
            pb.Signature(inputs=[state(initial_state=tensors.encode(np.zeros(3, np.float32)))]),
            "inputs[0].initial_state",
        ),
        (
            pb.Signature(inputs=[state(initial_state=tensors.encode(np.zeros(4)))]),
            "inputs[0].initial_state",
        ),
        (pb.Signature(inputs=[state()]), "outputs"),
        (pb.Signature(outputs=[graph_output(role=pb.ROLE_NEXT_STATE)]), "outputs"),
        (pb.Signature(outputs=[graph_output(), graph_output(key="b")]), "outputs"),
        (pb.Signature(outputs=[graph_output(role=pb.ROLE_OBSERVATION)]), "outputs[0].role"),
        (pb.Signature(columns=[column(role=pb.ROLE_NOISE)]), "columns[0].role"),
        (pb.Signature(columns=[column(role=0)]), "columns[0].role"),
        (pb.Signature(columns=[column(extent=0)]), "columns[0].extent"),
        (pb.Signature(columns=[column(), column(dtype=77, key="b")]), "columns[1].dtype"),
        (pb.Signature(columns=[column(), column()]), "columns"),
    ],
)
def test_a_malformed_signature_is_named(message, field):
    with pytest.raises(InvalidFieldError) as caught:
        sig.from_proto(message)
    assert caught.value.field == field


random_numbers = st.integers(-1, 20)
random_tensor = st.builds(
    tensor_pb2.Tensor,
    dtype=st.integers(0, 13),
    shape=st.lists(st.integers(0, 2**64 - 1), max_size=2),
    data=st.binary(max_size=8),
)


@hypothesis.given(
    st.builds(
        pb.Signature,
        inputs=st.lists(
            st.builds(
                pb.GraphInput,
                name=keys,
                role=random_numbers,
                key=keys,
                dtype=random_numbers,
                shape=st.lists(st.integers(0, 2**64 - 1), max_size=2),
                noise=random_numbers,
                initial_state=random_tensor,
            ),
            max_size=3,
        ),
        columns=st.lists(
            st.builds(
                pb.ColumnSpec, role=random_numbers, dtype=random_numbers, extent=random_numbers
            ),
            max_size=3,
        ),
    )
)
def test_a_random_message_is_a_signature_or_is_refused_by_name(message):
    try:
        signature = sig.from_proto(message)
    except InvalidFieldError as error:
        assert error.field.partition("[")[0] in {"inputs", "outputs", "columns"}
    else:
        assert len(signature.inputs) == len(message.inputs)
