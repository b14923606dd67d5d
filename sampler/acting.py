"""What a policy is fed for B copies and where it answers: arrays that stay, bound to its session.

The signature says everything: an observation input reads the array that environments write, a noise
input gets the row's draws, a state input the last next state, and so on. Nothing here knows what an
output means beyond its role.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from common import spaces
from common.signature import ColumnKey, Role
from sampler.environments.stepping import Observed
from sampler.pool import PoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from common.signature import GraphInput, GraphOutput, Signature
    from common.specs import EnvironmentSpec

StateKey: TypeAlias = tuple[str, str]
"""Group and key of a recurrent state."""

Scalars: TypeAlias = "dict[str, NDArray[np.float32]]"
"""Exploration values by key: one, or one for each slot of the sampler."""

_FED = frozenset(
    {Role.OBSERVATION, Role.ACTION_MASK, Role.STATE, Role.RESET, Role.NOISE, Role.SCALAR}
)
_RECORDED = frozenset(
    {
        Role.OBSERVATION,
        Role.ACTION_MASK,
        Role.STATE,
        Role.ACTION,
        Role.RECORD,
        Role.REWARD,
        Role.TERMINATED,
        Role.TRUNCATED,
        Role.IS_FIRST,
        Role.VALID,
        Role.EPISODE_END,
    }
)


def outputs_for(signature: Signature, *, greedy: bool) -> tuple[GraphOutput, ...]:
    """The outputs that rolling needs, or, with `greedy`, an evaluation; the action comes first.

    Raises:
        PoolError: The signature has no action.
    """
    actions = signature.outputs_of(Role.ACTION)
    if greedy:
        actions = signature.outputs_of(Role.GREEDY_ACTION) or actions
    if len(actions) != 1:
        raise PoolError(f"the signature has {len(actions)} action outputs; one agent takes one")
    recorded = {column.key for column in signature.columns}
    records = [
        output
        for output in signature.outputs_of(Role.RECORD)
        if not greedy and ColumnKey(Role.RECORD, output.group, output.key) in recorded
    ]
    return (*actions, *signature.outputs_of(Role.NEXT_STATE), *records)


def check(signature: Signature, spec: EnvironmentSpec) -> None:
    """Compares a signature with the environment that it is for.

    Raises:
        PoolError: An input or column that the environment cannot fill, or of another shape.
    """
    if spec.multi_agent:
        raise PoolError("this sampler rolls environments with one agent only")
    agent = spec.agent
    shapes = {
        (Role.OBSERVATION, path): leaf.shape
        for path, leaf in spaces.leaves(agent.observation).items()
    }
    if agent.action_mask:
        match agent.action:
            case spaces.Discrete():
                shapes[Role.ACTION_MASK, ""] = (agent.action.n,)
            case spaces.MultiDiscrete():
                shapes[Role.ACTION_MASK, ""] = (sum(agent.action.n),)
    produced = {(output.role, output.key) for output in signature.outputs}
    for tensor in signature.inputs:
        _check_shape(shapes, tensor.role, tensor.key, tensor.shape, f"input {tensor.name}")
    for column in signature.columns:
        role, key = column.key.role, column.key.key
        if role not in _RECORDED or (
            role in (Role.ACTION, Role.RECORD) and (role, key) not in produced
        ):
            raise PoolError(f"nothing here fills the column {column.key}")
        _check_shape(shapes, role, key, column.shape, f"column {column.key}")
    action = outputs_for(signature, greedy=False)[0]
    if action.shape != (() if isinstance(agent.action, spaces.Dict) else agent.action.shape):
        raise PoolError(f"the action output has shape {action.shape}, the space is {agent.action}")


def _check_shape(
    shapes: Mapping[tuple[Role, str], tuple[int, ...]],
    role: Role,
    key: str,
    shape: tuple[int, ...],
    what: str,
) -> None:
    if role not in (Role.OBSERVATION, Role.ACTION_MASK):
        return
    if (role, key) not in shapes:
        raise PoolError(f"{what}: the environment has no such observation or mask")
    if shapes[role, key] != shape:
        raise PoolError(f"{what} has shape {shape}, the environment gives {shapes[role, key]}")


@dataclasses.dataclass(frozen=True)
class _State:
    fed: NDArray[Any]
    answered: NDArray[Any]
    initial: NDArray[Any]


class ActingArrays:
    """The arrays for B copies.

    Args:
        signature: What the graph takes and answers.
        copies: B.
        greedy: For an evaluation.

    Attributes:
        live: Where environments write the current observations.
        action: What the policy answered, `[B, ...]`.
        inputs: What is bound to the graph's inputs, by name.
        outputs: What is bound to those of its outputs that are needed, by name.
        records: The arrays of the recorded outputs, by column.
        starting: `[B]` bool, whether the coming row begins an episode.
        states: The fed recurrent states `[B, ...]`.
    """

    def __init__(self, signature: Signature, copies: int, *, greedy: bool) -> None:
        self.copies = copies
        needed = outputs_for(signature, greedy=greedy)
        self.outputs = {one.name: np.zeros((copies, *one.shape), one.dtype) for one in needed}
        self.action = self.outputs[needed[0].name]
        self.records = {
            ColumnKey(one.role, one.group, one.key): self.outputs[one.name]
            for one in needed
            if one.role in (Role.ACTION, Role.RECORD)
        }
        self.starting = np.zeros(copies, np.bool_)
        self.live = _live(signature, copies)
        self.inputs: dict[str, NDArray[Any]] = {}
        self._casts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._states: dict[StateKey, _State] = {}
        self._scalars: dict[str, NDArray[Any]] = {}
        following = {
            (one.group, one.key): self.outputs[one.name]
            for one in needed
            if one.role == Role.NEXT_STATE
        }
        for tensor in signature.inputs:
            self._feed(tensor, following)

    def _feed(self, tensor: GraphInput, following: Mapping[StateKey, NDArray[Any]]) -> None:
        array = np.zeros((self.copies, *tensor.shape), tensor.dtype)
        match tensor.role:
            case Role.OBSERVATION:
                array = self._same_or_cast(self.live.leaves[tensor.key], array)
            case Role.ACTION_MASK if self.live.mask is not None:
                array = self._same_or_cast(self.live.mask, array)
            case Role.RESET:
                array = self._same_or_cast(self.starting, array)
            case Role.STATE if tensor.initial_state is not None:
                key = (tensor.group, tensor.key)
                array[...] = tensor.initial_state
                self._states[key] = _State(array, following[key], tensor.initial_state)
            case Role.SCALAR:
                self._scalars[tensor.key] = array
        self.inputs[tensor.name] = array

    def _same_or_cast(self, source: NDArray[Any], fed: NDArray[Any]) -> NDArray[Any]:
        if source.dtype == fed.dtype:
            return source
        self._casts.append((fed, source))
        return fed

    @property
    def states(self) -> dict[StateKey, NDArray[Any]]:
        """The recurrent states `[B, ...]` that the next row is fed."""
        return {key: state.fed for key, state in self._states.items()}

    def restore_states(self, position: int) -> None:
        """Gives one copy the initial states, for an episode that follows on nothing."""
        for state in self._states.values():
            state.fed[position] = state.initial

    def set_scalars(self, scalars: Scalars, slots: Sequence[int] | None) -> None:
        """Sets the exploration values of the given slots, or, with None, those of no slot at all.

        Raises:
            PoolError: The learner has set no value of an input, or none for a slot.
        """
        for key, array in self._scalars.items():
            values = scalars.get(key)
            if values is None or not len(values):
                raise PoolError(f"the learner has set no value for the scalar {key!r}")
            if len(values) == 1 or slots is None:
                array[...] = values[0]
                continue
            if max(slots) >= len(values):
                raise PoolError(
                    f"scalar {key!r} has {len(values)} values, none for slot {max(slots)}"
                )
            chosen = values[np.asarray(slots)]
            array[...] = chosen.reshape(self.copies, *(1,) * (array.ndim - 1))

    def act(
        self,
        run: Callable[[], object],
        noise: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    ) -> Callable[[int], None]:
        """A function that acts in a row, given its number.

        Args:
            run: Runs the policy over the bound arrays.
            noise: Pairs of an input's array `[B, ...]` and its draws `[T, B, ...]`.
        """
        casts, states = self._casts, [(one.fed, one.answered) for one in self._states.values()]

        def act_row(row: int) -> None:
            for fed, drawn in noise:
                fed[...] = drawn[row]
            for fed, source in casts:
                fed[...] = source
            run()
            for fed, answered in states:
                fed[...] = answered

        return act_row


def _live(signature: Signature, copies: int) -> Observed:
    """Arrays in the dtype that is recorded, else in that which is fed."""
    leaves: dict[str, NDArray[Any]] = {}
    mask = None
    wanted = [(one.key.role, one.key.key, one.shape, one.dtype) for one in signature.columns]
    wanted += [(one.role, one.key, one.shape, one.dtype) for one in signature.inputs]
    for role, key, shape, dtype in wanted:
        if role == Role.OBSERVATION and key not in leaves:
            leaves[key] = np.zeros((copies, *shape), dtype)
        elif role == Role.ACTION_MASK and mask is None:
            mask = np.ones((copies, *shape), np.bool_)
    return Observed(leaves, mask)
