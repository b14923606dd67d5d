"""A round on the device: flat rows for minibatches, and the arrays that returns follow from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from common.signature import ColumnKey, Role
from learner import interruption
from learner.algorithms.sequences import MEMORY, Past

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from common.signature import Signature
    from learner.experience.columns import Columns
    from learner.experience.on_policy import FragmentKey, OnPolicyBatch
    from learner.networks.distributions import ActionDistribution

LOG_PROB = "log_prob"
RAW_ACTION = "raw_action"
"""Keys of what the behaviour policy records."""


@dataclasses.dataclass(frozen=True)
class Rollout:
    """T rows of B environments of a single agent; row t of environment b is number t B + b.

    Attributes:
        shape: (T, B).
        leaves: Observations by leaf, `[(T + 1) B + N, *shape]`: those of every row, those after the
            last one, and the N final ones that stand in no row.
        masks: [T B, M] bool, or None.
        actions: [T B, ...], as the distribution's `encode` gives them; 0 in rows that are not
            valid.
        log_probs: [T B] float32, of the behaviour policy; 0 in rows that are not valid.
        valid_rows: [T B] bool.
        rewards: [T, B] float32, raw.
        terminated: [T, B] bool.
        truncated: [T, B] bool.
        valid: [T, B] bool.
        final_rows: [N], the rows that the final observations belong to.
        final_slots: [N], their positions on the axis B.
        keys: [B], where each fragment stands among all of the run.
        past: What a policy with a memory had before; None without one.
    """

    shape: tuple[int, int]
    leaves: list[Tensor]
    masks: Tensor | None
    actions: Tensor
    log_probs: Tensor
    valid_rows: Tensor
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    final_rows: NDArray[np.int64]
    final_slots: NDArray[np.int64]
    keys: Sequence[FragmentKey]
    past: Past | None

    @property
    def rows(self) -> int:
        """T B."""
        return self.shape[0] * self.shape[1]

    @property
    def ended(self) -> NDArray[np.bool_]:
        """[T, B]: terminated or truncated."""
        return self.terminated | self.truncated


def rollout_of(
    batch: OnPolicyBatch,
    signature: Signature,
    distribution: ActionDistribution,
    *,
    device: torch.device,
) -> Rollout:
    """A single agent's round, on `device`; what rows that are not valid hold is made harmless."""
    columns = batch.columns
    valid = columns[ColumnKey(Role.VALID)]
    valid_rows = _flat(valid, device)
    mask = ColumnKey(Role.ACTION_MASK)
    action = ColumnKey(Role.ACTION)
    if distribution.records_raw:
        action = ColumnKey(Role.RECORD, "", RAW_ACTION)
    actions = distribution.encode(_flat(columns[action], device))
    log_probs = _flat(columns[ColumnKey(Role.RECORD, "", LOG_PROB)], device)
    if not valid.all():
        # Such rows hold whatever the policy said, and 0 times NaN is NaN.
        actions[~valid_rows] = 0
        log_probs[~valid_rows] = 0
    return Rollout(
        shape=(valid.shape[0], valid.shape[1]),
        leaves=_observations(batch, signature, device),
        masks=_flat(columns[mask][:-1], device) if mask in columns else None,
        actions=actions,
        log_probs=log_probs,
        valid_rows=valid_rows,
        rewards=columns[ColumnKey(Role.REWARD)],
        terminated=columns[ColumnKey(Role.TERMINATED)],
        truncated=columns[ColumnKey(Role.TRUNCATED)],
        valid=valid,
        final_rows=batch.final_rows,
        final_slots=batch.final_slots,
        keys=batch.keys,
        past=_past(columns, device),
    )


def _observations(batch: OnPolicyBatch, signature: Signature, device: torch.device) -> list[Tensor]:
    keys = [
        ColumnKey(tensor.role, tensor.group, tensor.key)
        for tensor in signature.inputs_of(Role.OBSERVATION)
    ]
    leaves = [_flat(batch.columns[key], device) for key in keys]
    if len(batch.final_rows) == 0:
        return leaves
    finals = [torch.tensor(batch.final_columns[key], device=device) for key in keys]
    return [torch.cat(pair) for pair in zip(leaves, finals, strict=True)]


def _past(columns: Columns, device: torch.device) -> Past | None:
    state = ColumnKey(Role.STATE, "", MEMORY)
    if state not in columns:
        return None
    reset = columns[ColumnKey(Role.IS_FIRST)]
    return Past(torch.tensor(columns[state], device=device), torch.tensor(reset, device=device))


def _flat(column: NDArray[Any], device: torch.device) -> Tensor:
    """[T, B, ...] to [T B, ...], a copy: the arrays are the store's own."""
    return torch.tensor(column.reshape(-1, *column.shape[2:]), device=device)


def shuffled_minibatches(
    generator: np.random.Generator, valid: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """All rows in a new order, in minibatches of one size; those without a valid row left out.

    Args:
        generator: Where the order comes from.
        valid: [T, B].
        count: How many minibatches; divides T B.

    Returns:
        Row numbers [K, M] and weights [K, M]: 1 for valid rows, else 0; K is at most `count`.
    """
    order = generator.permutation(valid.size).reshape(count, -1)
    weights = valid.reshape(-1)[order]
    kept = weights.any(1)
    return order[kept], weights[kept].astype(np.float32)


def in_chunks(parts: Sequence[Tensor], size: int) -> Iterator[list[Tensor]]:
    """The rows of several tensors in pieces of at most `size`; an update may be left before each.

    So take a piece when parameters and optimiser fit together.
    """
    for piece in zip(*(torch.split(part, size) for part in parts), strict=True):
        interruption.allow()
        yield list(piece)
