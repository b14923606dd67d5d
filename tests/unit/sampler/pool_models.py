"""Small policy graphs for the tests of the pool, made by hand, and their signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper
from small_models import BOOL, FLOAT, INT, graph

from common import signature as signatures
from common import spaces, tensors
from common.signature import (
    ColumnKey,
    ColumnSpec,
    Extent,
    GraphInput,
    GraphOutput,
    Noise,
    Role,
    Signature,
)
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from common.specs import EnvironmentSpec


def columns(
    spec: EnvironmentSpec,
    *,
    action: np.dtype[Any] = INT,
    records: dict[str, tuple[int, ...]] | None = None,
    states: dict[str, tuple[int, ...]] | None = None,
    mask_width: int | None = None,
) -> tuple[ColumnSpec, ...]:
    """The columns that a learner asks for."""
    made = [
        ColumnSpec(
            ColumnKey(Role.OBSERVATION, "", path),
            FLOAT if leaf.dtype == np.float64 else leaf.dtype,
            leaf.shape,
            Extent.ROWS_PLUS_ONE,
        )
        for path, leaf in spaces.leaves(spec.agent.observation).items()
    ]
    if mask_width is not None:
        made.append(
            ColumnSpec(ColumnKey(Role.ACTION_MASK), BOOL, (mask_width,), Extent.ROWS_PLUS_ONE)
        )
    assert not isinstance(spec.agent.action, spaces.Dict)
    made.append(ColumnSpec(ColumnKey(Role.ACTION), action, spec.agent.action.shape))
    made.append(ColumnSpec(ColumnKey(Role.REWARD), FLOAT))
    made += [
        ColumnSpec(ColumnKey(role), BOOL)
        for role in (
            Role.TERMINATED,
            Role.TRUNCATED,
            Role.IS_FIRST,
            Role.VALID,
            Role.EPISODE_END,
        )
    ]
    made += [
        ColumnSpec(ColumnKey(Role.RECORD, "", key), FLOAT, shape)
        for key, shape in (records or {}).items()
    ]
    made += [
        ColumnSpec(ColumnKey(Role.STATE, "", key), FLOAT, shape, Extent.INITIAL)
        for key, shape in (states or {}).items()
    ]
    return tuple(made)


def mlp(spec: EnvironmentSpec, *, seed: int = 0, hidden: int = 64) -> tuple[Signature, bytes]:
    """A discrete policy: two tanh layers, Gumbel-max over uniform noise, log_prob recorded."""
    observation, action = spec.agent.observation, spec.agent.action
    assert isinstance(observation, spaces.Box)
    assert isinstance(action, spaces.Discrete)
    size, actions = observation.shape[0], action.n
    signature = Signature(
        (
            GraphInput("observation", Role.OBSERVATION, FLOAT, (size,)),
            GraphInput("noise", Role.NOISE, FLOAT, (actions,), "", "u", noise=Noise.OPEN_UNIFORM),
        ),
        (
            GraphOutput("action", Role.ACTION, INT),
            GraphOutput("greedy", Role.GREEDY_ACTION, INT),
            GraphOutput("log_prob", Role.RECORD, FLOAT, (), "", "log_prob"),
        ),
        columns(spec, records={"log_prob": ()}),
    )
    random = np.random.default_rng(seed)
    constants = {
        "w0": random.normal(size=(size, hidden)) / 2,
        "b0": np.zeros(hidden),
        "w1": random.normal(size=(hidden, hidden)) / 8,
        "b1": np.zeros(hidden),
        "w2": random.normal(size=(hidden, actions)) / 8,
        "b2": np.zeros(actions),
    }
    node = helper.make_node
    nodes = [
        node("Gemm", ["observation", "w0", "b0"], ["h0"]),
        node("Tanh", ["h0"], ["t0"]),
        node("Gemm", ["t0", "w1", "b1"], ["h1"]),
        node("Tanh", ["h1"], ["t1"]),
        node("Gemm", ["t1", "w2", "b2"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        node("Log", ["noise"], ["l0"]),
        node("Neg", ["l0"], ["l1"]),
        node("Log", ["l1"], ["l2"]),
        node("Sub", ["log_probs", "l2"], ["perturbed"]),
        node("ArgMax", ["perturbed"], ["action"], axis=-1, keepdims=0),
        node("ArgMax", ["logits"], ["greedy"], axis=-1, keepdims=0),
        node("Unsqueeze", ["action", "last"], ["chosen"]),
        node("GatherElements", ["log_probs", "chosen"], ["taken"], axis=-1),
        node("Squeeze", ["taken", "last"], ["log_prob"]),
    ]
    weights: dict[str, Any] = {name: array.astype(np.float32) for name, array in constants.items()}
    return signature, graph(nodes, signature, {**weights, "last": np.array([-1])})


def uniform_choice(spec: EnvironmentSpec, path: str = "") -> tuple[Signature, bytes]:
    """Takes floor(noise * n) as a discrete action and records the noise; looks at nothing."""
    assert isinstance(spec.agent.action, spaces.Discrete)
    leaf = spaces.leaves(spec.agent.observation)[path]
    dtype = FLOAT if leaf.dtype == np.float64 else leaf.dtype
    signature = Signature(
        (
            GraphInput("observation", Role.OBSERVATION, dtype, leaf.shape, "", path),
            GraphInput("noise", Role.NOISE, FLOAT, (1,), "", "u", noise=Noise.OPEN_UNIFORM),
        ),
        (
            GraphOutput("action", Role.ACTION, INT),
            GraphOutput("noise_seen", Role.RECORD, FLOAT, (), "", "noise"),
        ),
        columns(spec, records={"noise": ()}),
    )
    nodes = [
        helper.make_node("Squeeze", ["noise", "last"], ["noise_seen"]),
        helper.make_node("Mul", ["noise_seen", "n"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["action"], to=onnx.TensorProto.INT64),
    ]
    constants = {"last": np.array([-1]), "n": np.float32(spec.agent.action.n)}
    return signature, graph(nodes, signature, constants)


def recurrent_counter(spec: EnvironmentSpec) -> tuple[Signature, bytes]:
    """Counts the rows of an episode in its state, from 10, and records it; reset is the graph's.

    Also records the scalar `epsilon`. The action is always 0.
    """
    observation = spec.agent.observation
    assert isinstance(observation, spaces.Box)
    signature = Signature(
        (
            GraphInput("observation", Role.OBSERVATION, FLOAT, observation.shape),
            GraphInput(
                "count",
                Role.STATE,
                FLOAT,
                (2,),
                "",
                "count",
                initial_state=np.array([10, 20], np.float32),
            ),
            GraphInput("reset", Role.RESET, BOOL),
            GraphInput("epsilon", Role.SCALAR, FLOAT, (), "", "epsilon"),
        ),
        (
            GraphOutput("action", Role.ACTION, INT),
            GraphOutput("next_count", Role.NEXT_STATE, FLOAT, (2,), "", "count"),
            GraphOutput("counted", Role.RECORD, FLOAT, (2,), "", "counted"),
            GraphOutput("epsilon_seen", Role.RECORD, FLOAT, (), "", "epsilon"),
        ),
        columns(spec, records={"counted": (2,), "epsilon": ()}, states={"count": (2,)}),
    )
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["reset", "last"], ["fresh"]),
        node("Where", ["fresh", "initial", "count"], ["counted"]),
        node("Add", ["counted", "one"], ["next_count"]),
        node("Identity", ["epsilon"], ["epsilon_seen"]),
        node("Mul", ["epsilon", "zero"], ["nothing"]),
        node("Cast", ["nothing"], ["action"], to=onnx.TensorProto.INT64),
    ]
    constants = {
        "last": np.array([-1]),
        "initial": np.array([10, 20], np.float32),
        "one": np.float32(1),
        "zero": np.float32(0),
    }
    return signature, graph(nodes, signature, constants)


def first_available(spec: EnvironmentSpec, width: int) -> tuple[Signature, bytes]:
    """Takes the first available discrete action."""
    signature = Signature(
        (GraphInput("mask", Role.ACTION_MASK, BOOL, (width,)),),
        (GraphOutput("action", Role.ACTION, INT),),
        columns(spec, mask_width=width),
    )
    nodes = [
        helper.make_node("Cast", ["mask"], ["number"], to=onnx.TensorProto.INT32),
        helper.make_node("ArgMax", ["number"], ["action"], axis=-1, keepdims=0),
    ]
    return signature, graph(nodes, signature)


def constant(spec: EnvironmentSpec, action: Any, dtype: np.dtype[Any]) -> tuple[Signature, bytes]:
    """Always answers the same action, of any shape; is fed the first observation leaf."""
    path, leaf = next(iter(spaces.leaves(spec.agent.observation).items()))
    shape = np.shape(action)
    observed = FLOAT if leaf.dtype == np.float64 else leaf.dtype
    signature = Signature(
        (GraphInput("observation", Role.OBSERVATION, observed, leaf.shape, "", path),),
        (GraphOutput("action", Role.ACTION, dtype, shape),),
        columns(spec, action=dtype),
    )
    node = helper.make_node
    nodes = [
        node("Shape", ["observation"], ["batch"], start=0, end=1),
        node("Concat", ["batch", "shape"], ["full"], axis=0),
        node("Expand", ["constant", "full"], ["action"]),
    ]
    constants = {
        "shape": np.array(shape, np.int64),
        "constant": np.asarray(action, dtype),
    }
    return signature, graph(nodes, signature, constants)


def registration(
    signature: Signature, *, seed: int = 1, index: int = 0, incarnation: int = 0
) -> learner_pb2.RegisterResponse:
    """What a learner answers."""
    return learner_pb2.RegisterResponse(
        signature=signatures.to_proto(signature),
        index=index,
        incarnation_base=incarnation,
        seed=seed,
    )


def golden(
    model: bytes, fed: dict[str, np.ndarray[Any, Any]], error: float = 0.0
) -> learner_pb2.GoldenVector:
    """A golden vector of a model, wrong by `error` in its floats."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    vector = learner_pb2.GoldenVector()
    for name, array in fed.items():
        vector.inputs.add(name=name, tensor=tensors.encode(array))
    names = [output.name for output in session.get_outputs()]
    for name, array in zip(names, session.run(names, fed), strict=True):
        wrong = array + error if array.dtype.kind == "f" else array
        vector.outputs.add(name=name, tensor=tensors.encode(wrong.astype(array.dtype)))
    return vector
