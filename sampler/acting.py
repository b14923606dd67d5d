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
from sampler.environments.stepping import Live, Observed
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
        Role.ALIVE,
        Role.GLOBAL_STATE,
    }
)


def outputs_for(signature: Signature, *, greedy: bool) -> tuple[GraphOutput, ...]:
    """The outputs that rolling needs, or, with `greedy`, an evaluation; the actions come first.

    Raises:
        PoolError: The signature has no action, or a group has two.
    """
    actions = signature.outputs_of(Role.ACTION)
    if greedy:
        actions = signature.outputs_of(Role.GREEDY_ACTION) or actions
    if not actions or len({one.group for one in actions}) < len(actions):
        raise PoolError(
            f"the signature has {len(actions)} action outputs; it takes one for each group"
        )
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
    shapes = _given(spec)
    produced = {ColumnKey(one.role, one.group, one.key) for one in signature.outputs}
    for tensor in signature.inputs:
        address = ColumnKey(tensor.role, tensor.group, tensor.key)
        _check_shape(shapes, address, tensor.shape, f"input {tensor.name}")
    for column in signature.columns:
        role = column.key.role
        if (
            role not in _RECORDED
            or (role in (Role.ACTION, Role.RECORD) and column.key not in produced)
            or (role in (Role.ALIVE, Role.GLOBAL_STATE) and column.key not in shapes)
        ):
            raise PoolError(f"nothing here fills the column {column.key}")
        _check_shape(shapes, column.key, column.shape, f"column {column.key}")
    actions = {one.group: one for one in outputs_for(signature, greedy=False)[: len(spec.groups)]}
    for group in spec.groups:
        action = actions.get(group.name)
        own = () if isinstance(group.action, spaces.Dict) else group.action.shape
        if action is None or action.role != Role.ACTION:
            raise PoolError(f"the signature has no action output for the group {group.name!r}")
        if action.shape != spec.axis(group) + own:
            raise PoolError(
                f"the action output has shape {action.shape}, the space is {group.action}"
            )


def _given(spec: EnvironmentSpec) -> dict[ColumnKey, tuple[int, ...]]:
    """The shapes of what an environment says, by address."""
    shapes: dict[ColumnKey, tuple[int, ...]] = {}
    for group in spec.groups:
        axis, width = spec.axis(group), spaces.mask_width(group.action)
        for path, leaf in spaces.leaves(group.observation).items():
            shapes[ColumnKey(Role.OBSERVATION, group.name, path)] = axis + leaf.shape
        if group.action_mask and width is not None:
            shapes[ColumnKey(Role.ACTION_MASK, group.name)] = (*axis, width)
        for role in (Role.REWARD, Role.TERMINATED, Role.TRUNCATED):
            shapes[ColumnKey(role, group.name)] = axis
        if spec.multi_agent:
            shapes[ColumnKey(Role.ALIVE, group.name)] = axis
    if spec.global_state is not None:
        for path, leaf in spaces.leaves(spec.global_state).items():
            shapes[ColumnKey(Role.GLOBAL_STATE, "", path)] = leaf.shape
    return shapes


_OF_THE_ENVIRONMENT = frozenset(
    {
        Role.OBSERVATION,
        Role.ACTION_MASK,
        Role.REWARD,
        Role.TERMINATED,
        Role.TRUNCATED,
        Role.ALIVE,
        Role.GLOBAL_STATE,
    }
)


def _check_shape(
    shapes: Mapping[ColumnKey, tuple[int, ...]],
    address: ColumnKey,
    shape: tuple[int, ...],
    what: str,
) -> None:
    if address.role not in _OF_THE_ENVIRONMENT:
        return
    if address not in shapes:
        raise PoolError(f"{what}: the environment has no such observation or mask")
    if shapes[address] != shape:
        raise PoolError(f"{what} has shape {shape}, the environment gives {shapes[address]}")


@dataclasses.dataclass(frozen=True)
class _State:
    fed: NDArray[Any]
    answered: NDArray[Any]
    initial: NDArray[Any]


class ActingArrays:
    """The arrays for B copies.

    Args:
        signature: What the graph takes and answers.
        spec: The environment's.
        copies: B.
        greedy: For an evaluation.

    Attributes:
        live: Where environments write the current observations.
        actions: What the policy answered, `[B, ...]` by group; with several agents `[B, n, ...]`.
        inputs: What is bound to the graph's inputs, by name.
        outputs: What is bound to those of its outputs that are needed, by name.
        records: The arrays of the recorded outputs, by column.
        starting: `[B]` bool, whether the coming row begins an episode.
        states: The fed recurrent states `[B, ...]`.
    """

    def __init__(
        self, signature: Signature, spec: EnvironmentSpec, copies: int, *, greedy: bool
    ) -> None:
        self.copies = copies
        needed = outputs_for(signature, greedy=greedy)
        self.outputs = {one.name: np.zeros((copies, *one.shape), one.dtype) for one in needed}
        acted = (Role.ACTION, Role.GREEDY_ACTION)
        self.actions = {one.group: self.outputs[one.name] for one in needed if one.role in acted}
        self.records = {
            ColumnKey(one.role, one.group, one.key): self.outputs[one.name]
            for one in needed
            if one.role in (Role.ACTION, Role.RECORD)
        }
        self.starting = np.zeros(copies, np.bool_)
        self.live = _live(signature, spec, copies)
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
                seen = self.live.groups[tensor.group].leaves[tensor.key]
                array = self._same_or_cast(seen, array)
            case Role.ACTION_MASK if (mask := self.live.groups[tensor.group].mask) is not None:
                array = self._same_or_cast(mask, array)
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


def _live(signature: Signature, spec: EnvironmentSpec, copies: int) -> Live:
    """Arrays in the dtype that is recorded, else in that which is fed."""
    leaves: dict[str, dict[str, NDArray[Any]]] = {group.name: {} for group in spec.groups}
    masks: dict[str, NDArray[Any]] = {}
    state: dict[str, NDArray[Any]] = {}
    wanted = [(one.key, one.shape, one.dtype) for one in signature.columns]
    wanted += [(ColumnKey(e.role, e.group, e.key), e.shape, e.dtype) for e in signature.inputs]
    for address, shape, dtype in wanted:
        match address.role:
            case Role.OBSERVATION if address.key not in leaves[address.group]:
                leaves[address.group][address.key] = np.zeros((copies, *shape), dtype)
            case Role.ACTION_MASK if address.group not in masks:
                masks[address.group] = np.ones((copies, *shape), np.bool_)
            case Role.GLOBAL_STATE:
                state[address.key] = np.zeros((copies, *shape), dtype)
    return Live(
        {group: Observed(found, masks.get(group)) for group, found in leaves.items()},
        np.zeros((copies, len(spec.agents)), np.bool_),
        state,
    )
