"""A policy for use elsewhere: an ONNX model of the action alone, and a page on how to feed it.

What a run saves is made for samplers: its graph also draws actions with their exploration and
computes what is recorded. For use, one output is left, and only the inputs that lead to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from common import spaces, specs
from common.errors import WiseRLError
from common.signature import Role
from learner import files
from learner.publishing import sessions
from learner.publishing.examples import drawn
from sampler import graphs
from sampler.acting import outputs_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from common.signature import GraphInput, GraphOutput, GraphTensor
    from common.specs import EnvironmentSpec
    from learner.policy_file import SavedPolicy

    Arrays = Mapping[str, NDArray[Any]]

FORMAT = 1
"""Of the description; it grows when something in it changes its meaning."""

CHECKED = 64
"""Random inputs that an exported model must answer as the run's own does."""

_TOLERANCE = 1e-4
_SHOWN = 2
_MOST_NUMBERS = 4096
"""A larger example is left out of the description, which is for people to read."""


@dataclasses.dataclass(frozen=True)
class Export:
    """An exported policy.

    Attributes:
        model: The ONNX model; weights inside, batch dimension free, standard operators only.
        inputs: What it is fed, without the batch dimension.
        outputs: What it answers: the action, and the next state of a policy with a memory.
        description: All of it for people and programs, as JSON has it.
    """

    model: bytes
    inputs: tuple[GraphInput, ...]
    outputs: tuple[GraphOutput, ...]
    description: dict[str, Any]

    def write(self, path: Path) -> Path:
        """Puts the model at `path` and the description beside it, with the ending `.json`.

        Returns:
            The description's path.

        Raises:
            WiseRLError: They cannot be written.
        """
        beside = path.with_suffix(".json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.replace(path, self.model)
            files.replace(beside, files.json_bytes({"model": path.name, **self.description}))
        except OSError as error:
            raise WiseRLError(f"{path} cannot be written: {error.strerror}") from None
        return beside


def export(saved: SavedPolicy, *, stochastic: bool = False) -> Export:
    """The policy for use elsewhere, checked against the run's own.

    Args:
        saved: The run's.
        stochastic: Take the actions of training, with their noise inputs, instead of greedy ones.

    Raises:
        WiseRLError: The model is damaged, or the exported one answers otherwise than it.
    """
    outputs = outputs_for(saved.signature, greedy=not stochastic)
    outputs = tuple(output for output in outputs if output.role != Role.RECORD)
    model = graphs.restricted(graphs.parse(saved.model), [output.name for output in outputs])
    examples = drawn(saved.signature.inputs, _leaves(saved), np.random.default_rng(0), CHECKED)
    answers = _checked(saved.model, model, examples, [output.name for output in outputs])
    taken = {tensor.name for tensor in sessions.session_of(model).get_inputs()}
    inputs = tuple(tensor for tensor in saved.signature.inputs if tensor.name in taken)
    fed = {tensor.name: examples[tensor.name] for tensor in inputs}
    description = {
        "format": FORMAT,
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "algorithm": saved.algorithm,
        "policy_version": saved.version,
        "environment_steps": saved.environment_steps,
        "environment": {
            "id": saved.environment.id,
            "arguments": specs.arguments_from_proto(saved.environment),
        },
        "actions": "stochastic" if stochastic else "greedy",
        "inputs": [_tensor(tensor) | _feeding(tensor, saved) for tensor in inputs],
        "outputs": [_tensor(tensor) for tensor in outputs],
        **_spaces(saved.spec),
        "example": _example(fed, answers),
    }
    return Export(model, inputs, outputs, description)


def _leaves(saved: SavedPolicy) -> dict[str, spaces.Leaf]:
    leaves = {group.name: spaces.leaves(group.observation) for group in saved.spec.groups}
    return {
        tensor.name: leaves[tensor.group][tensor.key]
        for tensor in saved.signature.inputs_of(Role.OBSERVATION)
    }


def _checked(original: bytes, model: bytes, examples: Arrays, names: list[str]) -> Arrays:
    """The model's answers to the examples, which are those of the original.

    Raises:
        WiseRLError: They are not, or the `onnx` package, where it is installed, finds fault.
    """
    with contextlib.suppress(ImportError):
        import onnx

        try:
            onnx.checker.check_model(model, full_check=True)
        except onnx.checker.ValidationError as error:
            raise WiseRLError(f"the exported model is no valid ONNX: {error}") from None
    expected, found = (_answers(content, examples, names) for content in (original, model))
    for name in names:
        if not np.allclose(found[name], expected[name], rtol=_TOLERANCE, atol=_TOLERANCE):
            raise WiseRLError(
                f"the exported model's output {name} differs from the run's own policy; that is a "
                "defect, please report it with the run's policy.onnx"
            )
    return found


def _answers(model: bytes, examples: Arrays, names: list[str]) -> Arrays:
    """What a model answers, asked for one environment and for all others at once."""
    session = sessions.session_of(model)
    taken = [tensor.name for tensor in session.get_inputs()]
    first, others = (
        sessions.run(session, names, {name: examples[name][part] for name in taken})
        for part in (slice(0, 1), slice(1, None))
    )
    return {name: np.concatenate([first[name], others[name]]) for name in names}


def _tensor(tensor: GraphTensor) -> dict[str, Any]:
    described = {
        "name": tensor.name,
        "role": tensor.role.name.lower(),
        "dtype": tensor.dtype.name,
        "shape": ["batch", *tensor.shape],
    }
    named = {"group": tensor.group, "key": tensor.key}
    return described | {name: value for name, value in named.items() if value}


def _feeding(tensor: GraphInput, saved: SavedPolicy) -> dict[str, Any]:
    """What else one must know to feed an input."""
    found: dict[str, Any] = {}
    if tensor.noise is not None:
        found["noise"] = tensor.noise.name.lower()
    if tensor.initial_state is not None:
        found["initial"] = tensor.initial_state.tolist()
    if tensor.role == Role.SCALAR and tensor.key in saved.scalars:
        found["value"] = saved.scalars[tensor.key][0]
    return found


def _spaces(spec: EnvironmentSpec) -> dict[str, Any]:
    """The spaces of the agent; of several those of each group, with its agents in their order."""
    found = [
        {
            "observation_space": _space(group.observation),
            "action_space": _space(group.action),
        }
        for group in spec.groups
    ]
    if not spec.multi_agent:
        return found[0]
    named = [{"group": group.name, "agents": list(group.agents)} for group in spec.groups]
    return {"groups": [name | one for name, one in zip(named, found, strict=True)]}


def _space(space: spaces.Space) -> dict[str, Any]:
    match space:
        case spaces.Dict(entries=entries):
            return {"kind": "Dict", "entries": {key: _space(one) for key, one in entries.items()}}
        case spaces.Box():
            bounds = {"low": _bound(space.low), "high": _bound(space.high)}
            return {"kind": "Box", "dtype": space.dtype.name, "shape": list(space.shape), **bounds}
        case spaces.Discrete():
            return {"kind": "Discrete", "n": space.n, "start": space.start}
        case spaces.MultiDiscrete():
            return {"kind": "MultiDiscrete", "n": list(space.n), "start": list(space.start)}
        case spaces.MultiBinary():
            return {"kind": "MultiBinary", "shape": list(space.shape)}


def _bound(bound: NDArray[Any]) -> Any:  # noqa: ANN401 - a number, None or lists of them
    """A Box's bound: one number where all are equal; None is infinity, which JSON lacks."""
    if bound.size and (bound == bound.flat[0]).all():
        value = bound.flat[0].item()
        return value if np.isfinite(value) else None
    numbers = bound.astype(object)
    numbers[~np.isfinite(bound)] = None
    return numbers.tolist()


def _example(inputs: Arrays, outputs: Arrays) -> dict[str, Any] | None:
    """The first inputs and what the model answers to them, to check a port with."""
    said = [{name: array[:_SHOWN] for name, array in one.items()} for one in (inputs, outputs)]
    if sum(array.size for part in said for array in part.values()) > _MOST_NUMBERS:
        return None
    fed, answered = ({name: array.tolist() for name, array in part.items()} for part in said)
    return {"inputs": fed, "outputs": answered}
