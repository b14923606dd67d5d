"""The memories of several agents, some of whom may share one network."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from learner.networks.recurrent import Memory
from learner.networks.teams import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.networks.teams import Members


class AgentMemory(nn.Module):
    """A memory for each policy, over the rows of its agents; see `Memory`.

    Row m of agent a is number m A + a; where rows are columns of sequences, so are these.

    Args:
        policies: Who shares a network.
        inputs: F, the width of features.
        units: H, the width of a state.
    """

    def __init__(self, policies: Sequence[Members], inputs: int, units: int) -> None:
        super().__init__()
        self._policies = tuple(policies)
        self._agents = sum(map(len, policies))
        self.memories = nn.ModuleList(Memory(inputs, units) for _ in policies)

    def forward(self, features: Tensor, state: Tensor, reset: Tensor) -> Tensor:
        """One row: [M A, F], the states before it [M A, H] and [M A] bool, to those after it."""
        if len(self._policies) == 1:
            whole: Tensor = self.memories[0](features, state, reset)
            return whole
        found = []
        for memory, members in zip(self.memories, self._policies, strict=True):
            own = [self._of(one, 0, members) for one in (features, state, reset)]
            after: Tensor = memory(*own)
            found.append(after.reshape(-1, len(members), after.shape[1]))
        return in_order(found, self._policies).flatten(0, 1)

    def unroll(self, features: Tensor, state: Tensor, reset: Tensor) -> Tensor:
        """[T, B A, F], the states before the first row [B A, H] and [T, B A] bool, to [T, B A, H].

        The states get no gradient.
        """
        if len(self._policies) == 1:
            return cast("Memory", self.memories[0]).unroll(features, state, reset)
        found = []
        for memory, members in zip(self.memories, self._policies, strict=True):
            states = cast("Memory", memory).unroll(
                self._of(features, 1, members),
                self._of(state, 0, members),
                self._of(reset, 1, members),
            )
            found.append(states.reshape(-1, len(members), states.shape[2]))
        return in_order(found, self._policies).reshape(len(features), -1, state.shape[1])

    def _of(self, rows: Tensor, axis: int, members: Members) -> Tensor:
        """The rows of some agents, of those [..., M A, ...] that stand on an axis."""
        before, after = rows.shape[:axis], rows.shape[axis + 1 :]
        by_agent = rows.reshape(*before, -1, self._agents, *after)
        taken = by_agent[:, list(members)] if axis == 0 else by_agent[:, :, list(members)]
        return taken.flatten(axis, axis + 1)
