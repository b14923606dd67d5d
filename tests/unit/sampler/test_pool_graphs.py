"""Models are looked into before they run."""

from __future__ import annotations

import numpy as np
import onnx
import pool_models
import pytest
from onnx import TensorProto, helper, numpy_helper

from common import spaces, specs
from sampler import graphs
from sampler.graphs import ModelRefusedError

SPEC = specs.single_agent(
    spaces.Box(-np.ones(4, np.float32), np.ones(4, np.float32)), spaces.Discrete(2)
)


def changed(change):
    _, model = pool_models.mlp(SPEC)
    message = onnx.load_from_string(model)
    change(message)
    return message.SerializeToString()


def test_an_ordinary_model_passes():
    graphs.parse(pool_models.mlp(SPEC)[1])


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 100])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(ModelRefusedError):
        graphs.parse(content)


def _external(message):
    tensor = message.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_attribute(message):
    tensor = TensorProto(name="x")
    tensor.external_data.add(key="location", value="/etc/passwd")
    node = helper.make_node("Constant", [], ["unused"])
    node.attribute.add(name="value", t=tensor, type=onnx.AttributeProto.TENSOR)
    message.graph.node.append(node)


def _foreign(message):
    message.graph.node[0].domain = "com.microsoft"


def _function(message):
    message.functions.add(name="f", domain="mine")


def _random(message):
    message.graph.node.append(helper.make_node("RandomNormal", [], ["r"], shape=[1]))


def _random_in_a_branch(message):
    inner = helper.make_graph(
        [helper.make_node("Bernoulli", ["greedy"], ["r"])],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    condition = numpy_helper.from_array(np.array(True), "condition")
    message.graph.initializer.append(condition)
    message.graph.node.append(
        helper.make_node("If", ["condition"], ["z"], then_branch=inner, else_branch=inner)
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_external, "file outside the model"),
        (_external_attribute, "file outside the model"),
        (_foreign, "com.microsoft"),
        (_function, "brings a function mine.f"),
        (_random, "RandomNormal"),
        (_random_in_a_branch, "Bernoulli"),
    ],
)
def test_what_no_policy_may_have_is_refused(change, says):
    with pytest.raises(ModelRefusedError, match=says):
        graphs.parse(changed(change))


def test_a_restricted_model_has_what_leads_to_its_outputs_and_no_more():
    parsed = graphs.parse(pool_models.mlp(SPEC)[1])
    greedy = onnx.load_from_string(graphs.restricted(parsed, ["greedy"]))
    onnx.checker.check_model(greedy)
    assert [value.name for value in greedy.graph.output] == ["greedy"]
    assert [value.name for value in greedy.graph.input] == ["observation"]
    assert {node.op_type for node in greedy.graph.node} == {"Gemm", "Tanh", "ArgMax"}
    rolling = onnx.load_from_string(graphs.restricted(parsed, ["action", "log_prob"]))
    assert len(rolling.graph.node) == 14
    # Restricting leaves what was parsed as it was.
    assert len(parsed.graph.node) == 15


def test_what_a_branch_reads_from_outside_is_kept():
    inner = helper.make_graph(
        [helper.make_node("Neg", ["h0"], ["r"])],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )

    def branch(message):
        condition = numpy_helper.from_array(np.array(True), "condition")
        message.graph.initializer.append(condition)
        message.graph.node.append(
            helper.make_node("If", ["condition"], ["z"], then_branch=inner, else_branch=inner)
        )
        message.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))

    restricted = graphs.restricted(graphs.parse(changed(branch)), ["z"])
    kept = onnx.load_from_string(restricted)
    assert [node.op_type for node in kept.graph.node] == ["Gemm", "If"]


def test_an_output_that_is_not_there_is_named():
    parsed = graphs.parse(pool_models.mlp(SPEC)[1])
    with pytest.raises(ModelRefusedError, match="value"):
        graphs.restricted(parsed, ["action", "value"])
