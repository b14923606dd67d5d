"""Golden vectors: inputs, and what the model must answer, for a sampler to check itself with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from common import tensors
from learner.publishing import sessions
from learner.publishing.examples import example_inputs
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnxruntime
    from numpy.typing import NDArray

    from learner.algorithms.behaviour import BehaviourPolicy

    Arrays = dict[str, NDArray[Any]]

ENVIRONMENTS = 3
_CANDIDATES = 32
_NUDGE = 1e-3
"""Relative change of inputs under which an action must stay the same to be shown as an example."""


def golden_vector(model: bytes, behaviour: BehaviourPolicy) -> learner_pb2.GoldenVector:
    """Three environments' inputs and outputs.

    They are taken from those whose integer outputs do not hang on the last digits: another ONNX
    Runtime on another processor rounds otherwise, and an action is right or wrong.
    """
    session = sessions.session_of(model)
    names = [output.name for output in behaviour.outputs]
    candidates = example_inputs(behaviour, np.random.default_rng(1), _CANDIDATES)
    chosen = _firm(session, names, candidates)[:ENVIRONMENTS]
    inputs = {name: np.ascontiguousarray(array[chosen]) for name, array in candidates.items()}
    outputs = sessions.run(session, names, inputs)
    return learner_pb2.GoldenVector(inputs=_named(inputs), outputs=_named(outputs))


def _firm(
    session: onnxruntime.InferenceSession, names: Sequence[str], inputs: Arrays
) -> NDArray[np.int64]:
    """Which candidates to take, the firm ones first."""
    base = sessions.run(session, names, inputs)
    firm = np.ones(_CANDIDATES, np.bool_)
    for factor in (1.0 - _NUDGE, 1.0 + _NUDGE):
        nudged = sessions.run(session, names, _scaled(inputs, factor))
        for name, array in base.items():
            if not np.issubdtype(array.dtype, np.floating):
                same = (array == nudged[name]).reshape(_CANDIDATES, -1)
                firm &= same.all(1)
    return np.argsort(~firm, kind="stable")


def _scaled(inputs: Arrays, factor: float) -> Arrays:
    return {
        name: array * array.dtype.type(factor) if array.dtype.kind == "f" else array
        for name, array in inputs.items()
    }


def _named(arrays: Arrays) -> list[learner_pb2.NamedTensor]:
    return [
        learner_pb2.NamedTensor(name=name, tensor=tensors.encode(array))
        for name, array in arrays.items()
    ]
