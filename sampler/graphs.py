"""Looks into a policy graph before it is run, without the `onnx` package, which samplers lack.

An ONNX model is a protobuf message (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3); the
few fields that decide whether a model is acceptable are described here under the same numbers, all
others pass through unread. Models come from the learner only, and are refused nonetheless where
they could read files, run code from outside the standard operators, or draw random numbers of
their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from common.errors import WiseRLError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_RANDOM_OPERATORS = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
_EXTERNAL = 1
_MAX_DEPTH = 32

_FieldDescriptor = descriptor_pb2.FieldDescriptorProto
_STRING, _INT64 = _FieldDescriptor.TYPE_STRING, _FieldDescriptor.TYPE_INT64

# Message -> (field, number, repeated, type), as in onnx.proto3.
_FIELDS: dict[str, tuple[tuple[str, int, bool, str | _FieldDescriptor.Type.ValueType], ...]] = {
    "Model": (
        ("graph", 7, False, "Graph"),
        ("functions", 25, True, "Function"),
    ),
    "Function": (("name", 1, False, _STRING), ("domain", 10, False, _STRING)),
    "Graph": (
        ("node", 1, True, "Node"),
        ("initializer", 5, True, "Tensor"),
        ("input", 11, True, "Value"),
        ("output", 12, True, "Value"),
        ("sparse_initializer", 15, True, "SparseTensor"),
    ),
    "Value": (("name", 1, False, _STRING),),
    "Node": (
        ("input", 1, True, _STRING),
        ("output", 2, True, _STRING),
        ("op_type", 4, False, _STRING),
        ("attribute", 5, True, "Attribute"),
        ("domain", 7, False, _STRING),
    ),
    "Attribute": (
        ("t", 5, False, "Tensor"),
        ("g", 6, False, "Graph"),
        ("tensors", 10, True, "Tensor"),
        ("graphs", 11, True, "Graph"),
        ("sparse_tensor", 22, False, "SparseTensor"),
        ("sparse_tensors", 23, True, "SparseTensor"),
    ),
    "Tensor": (("external_data", 13, True, "Entry"), ("data_location", 14, False, _INT64)),
    "Entry": (("key", 1, False, _STRING),),
    "SparseTensor": (("values", 1, False, "Tensor"), ("indices", 2, False, "Tensor")),
}


class ModelRefusedError(WiseRLError):
    """A model that a policy must not be."""


def _model_class() -> type[Any]:
    package = "wiserl.onnx"
    file = descriptor_pb2.FileDescriptorProto(
        name="wiserl/onnx_subset.proto", package=package, syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, repeated, kind in fields:
            added = message.field.add(name=field, number=number)
            added.label = (
                _FieldDescriptor.LABEL_REPEATED if repeated else _FieldDescriptor.LABEL_OPTIONAL
            )
            if isinstance(kind, str):
                added.type = _FieldDescriptor.TYPE_MESSAGE
                added.type_name = f".{package}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Model"))


_Model = _model_class()


def parse(model: bytes) -> Message:
    """A model as a message of the fields above, checked.

    Raises:
        ModelRefusedError: Not a model, or one with external data, an operator or function from
            outside the standard domain, or a random operator.
    """
    message = _Model()
    try:
        message.ParseFromString(model)
    except DecodeError:
        raise ModelRefusedError(f"{len(model)} bytes are no ONNX model") from None
    if not message.graph.node or not message.graph.output:
        raise ModelRefusedError("the model has no nodes or no outputs")
    for function in message.functions:
        raise ModelRefusedError(
            f"the model brings a function {function.domain}.{function.name}; export it inlined"
        )
    for graph in _graphs(message.graph, _MAX_DEPTH):
        _check(graph)
    checked: Message = message
    return checked


def restricted(message: Message, outputs: Collection[str]) -> bytes:
    """The model of a message of `parse` with some of its outputs only, and what leads to them.

    Inputs that lead to none are gone too, so that a caller need not feed them.

    Raises:
        ModelRefusedError: The model lacks one of the outputs.
    """
    model: Any = _Model()
    model.CopyFrom(message)
    graph = model.graph
    missing = set(outputs) - {value.name for value in graph.output}
    if missing:
        raise ModelRefusedError(f"the model lacks the outputs {sorted(missing)} of the signature")
    _keep(graph.output, lambda value: value.name in outputs)
    needed = set(outputs)
    for node in reversed(graph.node):  # ONNX demands a topological order
        if needed.intersection(node.output):
            needed.update(node.input)
            for attribute in node.attribute:
                for inner in _attribute_graphs(attribute, _MAX_DEPTH):
                    needed.update(name for one in inner.node for name in one.input)
                    needed.update(value.name for value in inner.output)
    _keep(graph.node, lambda node: bool(needed.intersection(node.output)))
    _keep(graph.input, lambda value: value.name in needed)
    content: bytes = model.SerializeToString()
    return content


def _keep(repeated: Any, wanted: Any) -> None:  # noqa: ANN401
    for i in reversed(range(len(repeated))):
        if not wanted(repeated[i]):
            del repeated[i]


def _graphs(graph: Any, depth: int) -> Iterator[Any]:  # noqa: ANN401
    """A graph and those inside its nodes (branches, loops)."""
    if depth == 0:
        raise ModelRefusedError(f"the model nests graphs deeper than {_MAX_DEPTH}")
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            yield from _attribute_graphs(attribute, depth - 1)


def _attribute_graphs(attribute: Any, depth: int) -> Iterator[Any]:  # noqa: ANN401
    if attribute.HasField("g"):
        yield from _graphs(attribute.g, depth)
    for inner in attribute.graphs:
        yield from _graphs(inner, depth)


def _check(graph: Any) -> None:  # noqa: ANN401
    for node in graph.node:
        if node.domain not in _STANDARD_DOMAINS:
            raise ModelRefusedError(
                f"the operator {node.domain}.{node.op_type} is none of the standard ones"
            )
        if node.op_type in _RANDOM_OPERATORS:
            raise ModelRefusedError(
                f"the model draws with {node.op_type}; randomness comes in through noise inputs"
            )
    for tensor in _tensors(graph):
        if tensor.external_data or tensor.data_location == _EXTERNAL:
            raise ModelRefusedError(
                "a tensor lies in a file outside the model; export with the weights inside"
            )


def _tensors(graph: Any) -> Iterator[Any]:  # noqa: ANN401
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse += attribute.sparse_tensors
            if attribute.HasField("sparse_tensor"):
                sparse.append(attribute.sparse_tensor)
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices
