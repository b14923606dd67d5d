"""The policy signature that follows from a behaviour policy and an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from common import spaces
from common.signature import ColumnKey, ColumnSpec, Extent, Role, Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.signature import GraphTensor
    from common.specs import EnvironmentSpec
    from learner.algorithms.behaviour import BehaviourPolicy

_BOOL = np.dtype(np.bool_)
_FLOAT = np.dtype(np.float32)


def signature_of(behaviour: BehaviourPolicy, spec: EnvironmentSpec) -> Signature:
    """The graph's tensors, and every column of the batches.

    The columns: what the graph is fed (observations and masks, with one entry more than rows), what
    it answered (actions, records), what the environment answered, the states to start a segment
    from.
    """
    columns = (
        *_fed(behaviour, spec),
        *(_column(output) for output in behaviour.outputs if output.role == Role.ACTION),
        *_answered(spec),
        *(_column(output) for output in behaviour.outputs if output.role == Role.RECORD),
        *(
            _column(state, Extent.INITIAL)
            for state in behaviour.inputs
            if state.role == Role.STATE and state.key in behaviour.pushed_states
        ),
    )
    return Signature(behaviour.inputs, behaviour.outputs, columns)


def _column(tensor: GraphTensor, extent: Extent = Extent.ROWS) -> ColumnSpec:
    key = ColumnKey(tensor.role, tensor.group, tensor.key)
    return ColumnSpec(key, tensor.dtype, tensor.shape, extent)


def _fed(behaviour: BehaviourPolicy, spec: EnvironmentSpec) -> Iterator[ColumnSpec]:
    for role in (Role.OBSERVATION, Role.ACTION_MASK):
        for tensor in behaviour.inputs:
            if tensor.role == role:
                yield _column(tensor, Extent.ROWS_PLUS_ONE)
    if spec.multi_agent:
        for group in spec.groups:
            key = ColumnKey(Role.ALIVE, group.name)
            yield ColumnSpec(key, _BOOL, spec.axis(group), Extent.ROWS_PLUS_ONE)
    if spec.global_state is not None and behaviour.global_state:
        for name, leaf in spaces.leaves(spec.global_state).items():
            key = ColumnKey(Role.GLOBAL_STATE, "", name)
            dtype = _FLOAT if np.issubdtype(leaf.dtype, np.floating) else leaf.dtype
            yield ColumnSpec(key, dtype, leaf.shape, Extent.ROWS_PLUS_ONE)


def _answered(spec: EnvironmentSpec) -> Iterator[ColumnSpec]:
    for role, dtype in ((Role.REWARD, _FLOAT), (Role.TERMINATED, _BOOL), (Role.TRUNCATED, _BOOL)):
        for group in spec.groups:
            yield ColumnSpec(ColumnKey(role, group.name), dtype, spec.axis(group))
    for role in (Role.IS_FIRST, Role.VALID, Role.EPISODE_END):
        yield ColumnSpec(ColumnKey(role), _BOOL)
