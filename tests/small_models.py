"""Small policy graphs, made by hand: what every test of samplers builds its models with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from common.signature import GraphInput, GraphOutput, Signature

FLOAT, INT, BOOL = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)

OPSET, IR_VERSION = 18, 10


def graph(
    nodes: Sequence[onnx.NodeProto],
    signature: Signature,
    constants: Mapping[str, Any] | None = None,
) -> bytes:
    """A model with the inputs and outputs of a signature."""

    def value(tensor: GraphInput | GraphOutput) -> onnx.ValueInfoProto:
        kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
        return helper.make_tensor_value_info(tensor.name, kind, ["batch", *tensor.shape])

    initialisers = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in (constants or {}).items()
    ]
    made = helper.make_graph(
        list(nodes),
        "policy",
        [value(tensor) for tensor in signature.inputs],
        [value(tensor) for tensor in signature.outputs],
        initialisers,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION).SerializeToString()
