"""Export of a behaviour policy to ONNX, once per structure, with errors that say cause and remedy.

This module alone imports torch.onnx and onnx, which take seconds: import it when there is something
to export.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
import torch.onnx

from common.errors import WiseRLError
from learner.publishing.examples import example_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from learner.algorithms.behaviour import BehaviourPolicy

OPSET = 18
IR_VERSION = 10
"""Pinned: ONNX Runtime has it since 1.18, whatever the exporter would take."""

RANDOM_OPERATORS = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)

_EXAMPLE_ENVIRONMENTS = 3
"""Above 1, which torch.export would take for a fixed size."""


class ExportError(WiseRLError):
    """A behaviour policy that cannot become a graph."""


def export(behaviour: BehaviourPolicy) -> bytes:
    """The policy as a serialised model, with every tensor of the module zero under its own name.

    Raises:
        ExportError: It cannot be exported, or its graph is none that a sampler may run.
    """
    module = copy.deepcopy(behaviour).cpu().eval()
    inputs = example_inputs(module, np.random.default_rng(0), _EXAMPLE_ENVIRONMENTS)
    arguments = tuple(torch.from_numpy(array) for array in inputs.values())
    _check_outputs(module, arguments)
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                arguments,
                input_names=list(inputs),
                output_names=[output.name for output in module.outputs],
                dynamic_shapes=_shapes(module, len(arguments)),
                dynamo=True,
                # Optimising folds weights and renames them; ONNX Runtime does it when it loads.
                optimize=False,
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:
            raise ExportError(_explain(error)) from error
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    model = program.model_proto
    _check_operators(model)
    _strip(model, set(module.named_tensors()))
    return bytes(model.SerializeToString())


def _shapes(module: BehaviourPolicy, count: int) -> tuple[Any, ...]:
    """The symbolic dimensions, in the form of `forward`'s parameters: named ones, and `*rest`."""
    environments = torch.export.Dim("environments")
    dimensions = tuple({0: environments} for _ in range(count))
    kinds = [one.kind for one in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return dimensions
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*dimensions[:named], dimensions[named:])


def _check_outputs(module: BehaviourPolicy, arguments: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad():
        outputs = module(*arguments)
    wanted = len(module.outputs)
    if not isinstance(outputs, tuple) or len(outputs) != wanted:
        raise ExportError(f"`forward` must return a tuple of its {wanted} outputs")
    if len({id(tensor) for tensor in (*arguments, *outputs)}) < len(arguments) + wanted:
        raise ExportError(
            "`forward` returns one tensor twice, or an input as it is, and a graph has one name "
            "for each tensor; return a `.clone()`"
        )
    for output, tensor in zip(module.outputs, outputs, strict=True):
        shape, found = (len(arguments[0]), *output.shape), tuple(tensor.shape)
        dtype = torch.from_numpy(np.empty(0, output.dtype)).dtype
        if found != shape or tensor.dtype != dtype:
            raise ExportError(
                f"`forward` gives {output.name} as {tensor.dtype} {found}, its signature says "
                f"{dtype} {shape}"
            )


def _check_operators(model: Any) -> None:  # noqa: ANN401 - onnx has no types
    """Refuses what a sampler would refuse."""
    for node in _nodes(model.graph):
        if node.op_type in RANDOM_OPERATORS:
            raise ExportError(
                f"the policy draws random numbers ({node.op_type}{_place(node)}); a graph that is "
                "rebuilt repeats its draws. Take a noise input and compute the draw from it"
            )
        if node.domain not in {"", "ai.onnx"}:
            raise ExportError(f"{node.op_type} is of {node.domain}, which samplers refuse")


def _nodes(graph: Any) -> Iterator[Any]:  # noqa: ANN401 - onnx has no types
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _place(node: Any) -> str:  # noqa: ANN401 - onnx has no types
    """Where in the user's code a node comes from, as far as the exporter tells."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.stack_trace":
            lines = entry.value.strip().splitlines()
            return f", from `{lines[-1].strip()}`" if lines else ""
    return ""


def _strip(model: Any, tensors: set[str]) -> None:  # noqa: ANN401 - onnx has no types
    """Takes out what tells of this machine and moment: traces, paths, the numbers themselves."""
    model.ir_version = IR_VERSION
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for node in _nodes(model.graph):
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for i, tensor in enumerate(model.graph.initializer):
        array = onnx.numpy_helper.to_array(tensor)
        if tensor.name in tensors:
            array = np.zeros_like(array)
        model.graph.initializer[i].CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _explain(error: Exception) -> str:
    """Cause and remedy of what torch.export or the translation to ONNX failed with."""
    chain = list(_causes(error))
    text = "\n".join(str(each) for each in chain)
    kinds = {type(each).__name__ for each in chain}
    place = re.search(r'File "[^"]*", line (\d+), in (\w+)\s*\n\s*(.+)', text)
    where = f" at line {place[1]} of `{place[2]}`: `{place[3].strip()}`" if place else ""
    if "GuardOnDataDependentSymNode" in kinds or "data-dependent" in text:
        return (
            f"the policy branches on the value of a tensor{where}; a graph has one way for all "
            "values. Choose with `torch.where`"
        )
    if "ConstraintViolationError" in kinds or "Constraints violated" in text:
        return (
            f"the policy works for one number of environments only{where}; keep the first "
            "dimension free: use -1 or `x.shape[0]`, not a number"
        )
    if "DispatchError" in kinds or "No ONNX function found" in text:
        operator = re.search(r"op='([^']+)'", text)
        return (
            f"{operator[1] if operator else 'an operator'} of torch has no counterpart in ONNX; "
            "compute the same with other operators"
        )
    reason = str(chain[-1]).strip().splitlines()
    name = type(chain[-1]).__name__
    return f"the policy cannot be exported: {name}: {reason[0] if reason else ''}{where}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, innermost last."""
    yield error
    inner = error.__cause__ or error.__context__
    if inner is not None:
        yield from _causes(inner)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks on its own insides from people."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
