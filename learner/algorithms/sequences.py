"""A round as whole fragments in their order, for policies with a memory.

A fragment begins with the state that its sampler had, which travels with it, and forgets where an
episode begins. The state stays as it was recorded however often the round is gone through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY = "memory"
"""Key of the state."""


class Recurrence(Protocol):
    """A memory, or those of several agents; see `learner.networks.recurrent.Memory`."""

    def __call__(self, features: Tensor, state: Tensor, reset: Tensor, /) -> Tensor:
        """One row: [N, F], [N, H] and [N] bool to [N, H]."""

    def unroll(self, features: Tensor, state: Tensor, reset: Tensor, /) -> Tensor:
        """T rows: [T, B, F], [B, H] and [T, B] bool to [T, B, H]."""


class Past(NamedTuple):
    """What B fragments remember.

    Attributes:
        initial: [B, H], the state before the first row.
        reset: [T, B] bool, rows that begin an episode.
        of_critic: The same of a memory that is the critic's own; None where there is none.
    """

    initial: Tensor
    reset: Tensor
    of_critic: Past | None = None

    def of(self, slots: Tensor) -> Past:
        """Of some fragments, by their positions on the axis B."""
        own = self.of_critic
        return Past(
            self.initial.index_select(0, slots),
            self.reset.index_select(1, slots),
            None if own is None else own.of(slots),
        )


def remembered(
    memory: Recurrence,
    features: Tensor,
    past: Past,
    *,
    final_rows: NDArray[np.int64],
    final_slots: NDArray[np.int64],
) -> Tensor:
    """The memory's features of every observation of a round.

    The observation after the last row follows on it; a final observation follows on its own row.
    What they begin counts for nobody: the value of an episode's first observation is never that of
    the step before it.

    Args:
        memory: The unit.
        features: `[(T + 1) B + N, F]`, the encoder's, in the order of a rollout's leaves.
        past: Of the B fragments.
        final_rows: [N], the rows that the final observations belong to.
        final_slots: [N], their positions on the axis B.

    Returns:
        `[(T + 1) B + N, H]`.
    """
    rows, slots = past.reset.shape
    split = (rows + 1) * slots
    going_on = past.reset.new_zeros((1, slots))
    states = memory.unroll(
        features[:split].view(rows + 1, slots, -1),
        past.initial,
        torch.cat((past.reset, going_on)),
    ).flatten(0, 1)
    if len(final_rows) == 0:
        return states
    before = torch.from_numpy(final_rows * slots + final_slots).to(states.device)
    finals = memory(features[split:], states[before], going_on.new_zeros(len(before)))
    return torch.cat((states, finals))


def shuffled_fragments(
    generator: np.random.Generator, valid: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Whole fragments in a new order, in minibatches of one size; those with no valid row left out.

    Args:
        generator: Where the order comes from.
        valid: [T, B].
        count: How many minibatches; divides B.

    Returns:
        Row numbers [K, M], time-major within a minibatch, weights [K, M]: 1 for valid rows, else 0,
        and the fragments' positions on the axis B [K, M / T]; K is at most `count`.
    """
    rows, slots = valid.shape
    order = generator.permutation(slots).reshape(count, 1, -1)
    numbers = (np.arange(rows)[:, None] * slots + order).reshape(count, -1)
    weights = valid.reshape(-1)[numbers]
    kept = weights.any(1)
    return numbers[kept], weights[kept].astype(np.float32), order[kept, 0]
