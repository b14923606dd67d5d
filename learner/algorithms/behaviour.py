"""The behaviour policy: the module that travels as an ONNX graph, exploration included."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from common import spaces, specs
from common.errors import UnsupportedSpaceError
from common.signature import ColumnKey, GraphInput, GraphOutput, Noise, Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from common.specs import AgentGroup, EnvironmentSpec


class BehaviourPolicy(nn.Module):
    """What a sampler runs.

    Subclasses give `forward`, which takes the tensors of `inputs` in their order, each with the
    environments as first dimension N, and answers with a tuple of those of `outputs` in theirs. It
    must work for every N of at least 1, must not branch on values, and must not draw random
    numbers: noise is an input.

    Attributes:
        inputs: What the sampler feeds.
        outputs: What it gets.
        leaves: The space of an input where it has one, by graph name: tells which integers may
            come.
        pushed_states: Keys of the states whose value before a segment travels with it.
        global_state: Whether the environment's global state is recorded, where it has one. It is
            not free: many environments make it by observing for every agent once more.
        structure: What the graph depends on beyond modules and tensors (settings, spaces), as text;
            a graph in the cache belongs to one such text.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[GraphInput],
        outputs: Sequence[GraphOutput],
        leaves: Mapping[str, spaces.Leaf] | None = None,
        pushed_states: Sequence[str] = (),
        global_state: bool = True,
        structure: str = "",
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.leaves = dict(leaves or {})
        self.pushed_states = tuple(pushed_states)
        self.global_state = global_state
        self.structure = structure

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order, for the inputs, in order."""
        raise NotImplementedError

    def named_tensors(self) -> dict[str, Tensor]:
        """Every parameter and buffer by its name; a tied tensor once under each of its names.

        Buffers that are kept out of `state_dict` are among them, since a graph depends on them too.
        """
        return {
            **dict(self.named_parameters(remove_duplicate=False)),
            **dict(self.named_buffers(remove_duplicate=False)),
        }


def structure_of(spec: EnvironmentSpec) -> str:
    """What the graph of a policy depends on of its environment, for `structure`."""
    message = specs.to_proto(spec).SerializeToString(deterministic=True)
    return hashlib.sha256(message).hexdigest()


def graph_name(role: Role, group: str = "", key: str = "") -> str:
    """The name of a tensor in the graph, such as `observation/camera`."""
    return str(ColumnKey(role, group, key))


def observation_inputs(
    spec: EnvironmentSpec, group: AgentGroup
) -> tuple[tuple[GraphInput, ...], dict[str, spaces.Leaf]]:
    """One input for each leaf of a group's observation space, and the leaves by graph name.

    Bytes, bools and integers travel as they are; floats of any width as float32.
    """
    inputs, leaves = [], {}
    for key, leaf in spaces.leaves(group.observation).items():
        name = graph_name(Role.OBSERVATION, group.name, key)
        floating = np.issubdtype(leaf.dtype, np.floating)
        inputs.append(
            GraphInput(
                name,
                Role.OBSERVATION,
                np.dtype(np.float32) if floating else leaf.dtype.newbyteorder("="),
                spec.axis(group) + leaf.shape,
                group.name,
                key,
            )
        )
        leaves[name] = leaf
    return tuple(inputs), leaves


def mask_input(spec: EnvironmentSpec, group: AgentGroup, width: int) -> GraphInput:
    """The action mask of a group: bool, flat over the choices of a MultiDiscrete."""
    name = graph_name(Role.ACTION_MASK, group.name)
    shape = (*spec.axis(group), width)
    return GraphInput(name, Role.ACTION_MASK, np.dtype(np.bool_), shape, group.name)


def noise_input(
    spec: EnvironmentSpec,
    group: AgentGroup,
    noise: Noise,
    shape: tuple[int, ...],
    key: str = "",
) -> GraphInput:
    """Fresh draws for a group; `key` tells several apart."""
    return GraphInput(
        graph_name(Role.NOISE, group.name, key),
        Role.NOISE,
        np.dtype(np.float32),
        spec.axis(group) + shape,
        group.name,
        key,
        noise=noise,
    )


def scalar_input(key: str) -> GraphInput:
    """A float32 number that the learner sets, such as an epsilon: one for each environment."""
    name = graph_name(Role.SCALAR, "", key)
    return GraphInput(name, Role.SCALAR, np.dtype(np.float32), (), "", key)


def action_outputs(spec: EnvironmentSpec, group: AgentGroup) -> tuple[GraphOutput, GraphOutput]:
    """The action and the greedy action of a group, in the dtype and shape of its action space.

    Raises:
        UnsupportedSpaceError: The action space is a Dict.
    """
    if isinstance(group.action, spaces.Dict):
        raise UnsupportedSpaceError("a Dict of actions has no dtype and shape; flatten it")
    dtype = group.action.dtype.newbyteorder("=")
    shape = spec.axis(group) + group.action.shape
    action, greedy = (
        GraphOutput(graph_name(role, group.name), role, dtype, shape, group.name)
        for role in (Role.ACTION, Role.GREEDY_ACTION)
    )
    return action, greedy


def record_output(
    spec: EnvironmentSpec, group: AgentGroup, key: str, shape: tuple[int, ...] = ()
) -> GraphOutput:
    """A float32 number (or more) that the sampler stores for the learner."""
    name = graph_name(Role.RECORD, group.name, key)
    shape = spec.axis(group) + shape
    return GraphOutput(name, Role.RECORD, np.dtype(np.float32), shape, group.name, key)


def initial_state(array: NDArray[Any], group: str, key: str) -> GraphInput:
    """A recurrent state whose value before the first row is `array`."""
    name = graph_name(Role.STATE, group, key)
    dtype = array.dtype.newbyteorder("=")
    return GraphInput(name, Role.STATE, dtype, array.shape, group, key, initial_state=array)


def next_state(state: GraphInput) -> GraphOutput:
    """What becomes of a recurrent state in a row."""
    name = graph_name(Role.NEXT_STATE, state.group, state.key)
    return GraphOutput(name, Role.NEXT_STATE, state.dtype, state.shape, state.group, state.key)


def reset_input() -> GraphInput:
    """Whether a row begins an episode: the graph then forgets its states."""
    return GraphInput(graph_name(Role.RESET), Role.RESET, np.dtype(np.bool_))
