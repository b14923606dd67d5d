"""A policy version as this sampler runs it: an ONNX Runtime session over arrays that stay."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from common import tensors
from sampler.pool import PoolError

# The official builds report to their maker over the network unless told otherwise before the
# import, from a thread that a fork would lose.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from protos.wiserl.v1 import learner_pb2

_TOLERANCE = 1e-4
_FATAL_ONLY = 4
_SMALL_BYTES = 64 * 1024
"""Below this a session is built in two thirds of the time without fusions, and runs as fast."""


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # A worker has one core; what threads would be for, the other workers are.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL_ONLY
    if len(model) < _SMALL_BYTES:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes share no base but this
        raise PoolError(f"ONNX Runtime does not take the model: {error}") from error


class Policy:
    """One version's graph, ready to act.

    Args:
        version: Which.
        model: The graph, restricted to what is needed of it.

    Attributes:
        inputs: The names of the inputs that lead to an output; the others are not fed.
    """

    def __init__(self, version: int, model: bytes) -> None:
        self.version = version
        self._session = _session(model)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.inputs = frozenset(tensor.name for tensor in self._session.get_inputs())

    def bind(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]
    ) -> Callable[[], object]:
        """A function that runs the graph from and into these arrays, which must outlive it.

        Binding once and copying rows in and out is cheaper than handing arrays over in every call:
        about 10 us less on a network of 64 by 64.

        Raises:
            PoolError: The graph has an input that the signature lacks.
        """
        unknown = self.inputs - inputs.keys()
        if unknown:
            raise PoolError(f"the model has the inputs {sorted(unknown)}, the signature lacks them")
        binding = self._session.io_binding()
        bound = []
        for name in sorted(self.inputs):
            array = inputs[name]
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            bound.append(array)
        for name in self._outputs:
            array = outputs[name]
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            bound.append(array)
        run = self._session.run_with_iobinding

        def act(_bound: list[NDArray[Any]] = bound) -> None:
            run(binding)

        return act


def verify(model: bytes, golden: learner_pb2.GoldenVector) -> None:
    """Runs a model on its golden vector, with the tolerance of the contract.

    Raises:
        PoolError: An output differs.
    """
    session = _session(model)
    fed = {one.name: tensors.decode(one.tensor) for one in golden.inputs}
    taken = {tensor.name for tensor in session.get_inputs()}
    names = [one.name for one in golden.outputs]
    answers = session.run(names, {name: fed[name] for name in taken & fed.keys()})
    for one, answer in zip(golden.outputs, answers, strict=True):
        expected = tensors.decode(one.tensor)
        if answer.shape != expected.shape or not _agree(answer, expected):
            raise PoolError(
                f"the output {one.name} of the model differs from the learner's golden vector; "
                f"this machine runs ONNX Runtime {onnxruntime.__version__}, try another version"
            )


def _agree(answer: NDArray[Any], expected: NDArray[Any]) -> bool:
    if expected.dtype.kind != "f":
        return bool(np.array_equal(answer, expected))
    return bool(np.allclose(answer, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True))
