"""The values of every agent's actions, with a memory of the episode or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from common import spaces
from common.errors import UnsupportedSpaceError
from learner.networks.bodies import Activation, activation_layer, mlp
from learner.networks.recurrent import Memory
from learner.networks.teams import TeamObservations, in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.specs import EnvironmentSpec
    from learner.networks.teams import Members


class _Values(nn.Module):
    """One policy's network: features to action values, through a memory if it has one."""

    def __init__(
        self,
        features: int,
        actions: int,
        *,
        hidden_sizes: Sequence[int],
        activation: Activation,
        memory: int | None,
    ) -> None:
        super().__init__()
        self.enter: nn.Module = nn.Identity()
        self.memory: Memory | None = None
        if memory is not None:
            self.enter = nn.Sequential(nn.Linear(features, memory), activation_layer(activation))
            self.memory = Memory(memory, memory)
            features, hidden_sizes = memory, ()
        self.head = mlp(features, hidden_sizes, actions, activation=activation, head_gain=1.0)

    def step(
        self, features: Tensor, state: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """[N, k, F], the state before it [N, k, H] and [N] to values [N, k, W] and the next."""
        rows, agents = features.shape[0], features.shape[1]
        flat = features.reshape(-1, features.shape[2])
        values: Tensor
        if self.memory is None or state is None or reset is None:
            values = self.head(flat)
            return values.reshape(-1, agents, values.shape[1]), None
        fresh = reset.unsqueeze(1).expand(rows, agents).reshape(-1)
        after = self.memory(self.enter(flat), state.reshape(-1, state.shape[2]), fresh)
        values = self.head(after)
        return values.reshape(-1, agents, values.shape[1]), after.reshape(
            -1, agents, state.shape[2]
        )

    def episodes(self, features: Tensor, length: int) -> Tensor:
        """[length * M, k, F], whole episodes from their first row on, to values of their rows."""
        if self.memory is None:
            return self.step(features, None, None)[0]
        agents = features.shape[1]
        entered = self.enter(features.reshape(-1, features.shape[2]))
        entered = entered.reshape(length, -1, entered.shape[1])
        slots = entered.shape[1]
        states = self.memory.unroll(
            entered,
            entered.new_zeros(slots, self.memory.features),
            torch.zeros(length, slots, dtype=torch.bool, device=entered.device),
        )
        values: Tensor = self.head(states)
        return values.reshape(-1, agents, values.shape[2])


class AgentValues(nn.Module):
    """Observations of all agents to the values of all their actions.

    Args:
        spec: The environment's; every action space is Discrete.
        policies: Who shares a network.
        hidden_sizes: Hidden layers of networks without a memory.
        activation: Of the hidden layers.
        memory: Units of a network's memory, None for none.
        network: See `TeamObservations`.

    Attributes:
        width: W, the most actions that an agent has.
        actions: How many each agent has.

    Raises:
        UnsupportedSpaceError: An action space is not Discrete.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        policies: Sequence[Members],
        *,
        hidden_sizes: Sequence[int],
        activation: Activation,
        memory: int | None,
        network: str,
    ) -> None:
        super().__init__()
        self.actions = tuple(
            _discrete(group.action).n for group in spec.groups for _ in group.agents
        )
        self.width = max(self.actions)
        self._policies = tuple(policies)
        self.observations = TeamObservations(spec, policies, network)
        self.networks = nn.ModuleList(
            _Values(
                features,
                max(self.actions[number] for number in members),
                hidden_sizes=hidden_sizes,
                activation=activation,
                memory=memory,
            )
            for features, members in zip(self.observations.features, policies, strict=True)
        )

    def forward(
        self, leaves: Sequence[Tensor], state: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """One row.

        Args:
            leaves: `[N, n, *shape]`, group after group.
            state: [N, A, H], or None without a memory.
            reset: [N] bool, where an episode begins; None without a memory.

        Returns:
            Values [N, A, W], and the next state.
        """
        values, states = [], []
        for network, members, features in zip(
            self.networks, self._policies, self.observations(leaves), strict=True
        ):
            whole = len(members) == len(self.actions)
            own = state if state is None or whole else state[:, list(members)]
            value, after = cast("_Values", network).step(features, own, reset)
            values.append(value)
            states.append(after)
        if state is None:
            return in_order(values, self._policies), None
        following = in_order(cast("list[Tensor]", states), self._policies)
        return in_order(values, self._policies), following

    def episodes(self, observed: Sequence[Tensor], length: int) -> Tensor:
        """Whole episodes: what `observations` gives of their rows to values [length, M, A, W]."""
        values = [
            cast("_Values", network).episodes(features, length)
            for network, features in zip(self.networks, observed, strict=True)
        ]
        joined = in_order(values, self._policies)
        return joined.reshape(length, -1, len(self.actions), joined.shape[2])


def _discrete(space: spaces.Space) -> spaces.Discrete:
    if isinstance(space, spaces.Discrete):
        return space
    raise UnsupportedSpaceError(
        f"iql, vdn and qmix take Discrete actions, these are a {type(space).__name__}: they need a "
        "value for each action"
    )
