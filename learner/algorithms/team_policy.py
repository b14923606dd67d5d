"""The behaviour policy of several agents with Discrete actions: epsilon-greedy, each for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from common.signature import Noise
from learner.algorithms import behaviour
from learner.algorithms.policy_sharing import members_of
from learner.networks.agent_values import AgentValues
from learner.networks.q_values import epsilon_greedy, noise_width
from learner.networks.teams import padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common import spaces
    from common.specs import EnvironmentSpec
    from learner.algorithms.policy_sharing import PolicySharing
    from learner.networks.bodies import Activation

EPSILON = "epsilon"
"""The key of the exploration value."""

MEMORY = "memory"
"""The key of the agents' recurrent state."""


class TeamNetworkConfig(Protocol):
    """The settings that the networks of agents are made by; see `IQLConfig`."""

    @property
    def policies(self) -> PolicySharing:
        """Which agents have one network."""

    @property
    def recurrent(self) -> bool:
        """Whether they have a memory."""

    @property
    def memory_size(self) -> int:
        """Units of it."""

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Hidden layers without one."""

    @property
    def activation(self) -> Activation:
        """Of the hidden layers."""

    @property
    def network(self) -> str:
        """`auto`, or `module:factory`."""


class TeamEpsilonGreedy(behaviour.BehaviourPolicy):
    """The observations of all agents, noise and epsilon to the actions of all.

    Attributes:
        values: The networks in training.
        starts: The first action of each group.
    """

    def __init__(
        self, spec: EnvironmentSpec, config: TeamNetworkConfig, *, global_state: bool
    ) -> None:
        groups = spec.groups
        memory = config.memory_size if config.recurrent else None
        values = AgentValues(
            spec,
            members_of(spec, config.policies),
            hidden_sizes=config.hidden_sizes,
            activation=config.activation,
            memory=memory,
            network=config.network,
        )
        self._masked = [group.action_mask for group in groups]
        self._fixed = len(set(values.actions)) > 1
        self._sizes = [len(group.agents) for group in groups]
        self._places = list(spec.places().values())
        self.starts = [cast("spaces.Discrete", group.action).start for group in groups]
        width = noise_width(values.width, masked=any(self._masked) or self._fixed)
        observed = [behaviour.observation_inputs(spec, group) for group in groups]
        masks = [
            behaviour.mask_input(spec, group, cast("spaces.Discrete", group.action).n)
            for group in groups
            if group.action_mask
        ]
        noise = [
            behaviour.noise_input(spec, group, Noise.OPEN_UNIFORM, (width,)) for group in groups
        ]
        states = [
            behaviour.initial_state(
                np.zeros((len(group.agents), memory), np.float32), group.name, MEMORY
            )
            for group in groups
            if memory is not None
        ]
        actions = [behaviour.action_outputs(spec, group) for group in groups]
        super().__init__(
            inputs=(
                *(tensor for inputs, _ in observed for tensor in inputs),
                *masks,
                *states,
                *((behaviour.reset_input(),) if states else ()),
                *noise,
                behaviour.scalar_input(EPSILON),
            ),
            outputs=(
                *(action for action, _ in actions),
                *(greedy for _, greedy in actions),
                *map(behaviour.next_state, states),
            ),
            leaves={name: leaf for _, leaves in observed for name, leaf in leaves.items()},
            global_state=global_state,
            structure=behaviour.structure_of(spec),
        )
        self._counts = [sum(len(inputs) for inputs, _ in observed), len(masks), len(states)]
        self.values = values
        self.register_buffer("there", _there(values), persistent=False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `inputs` lists to what `outputs` lists."""
        observed, masks, states = self._counts
        leaves, rest = inputs[:observed], inputs[observed:]
        given, rest = rest[:masks], rest[masks:]
        memory, rest = rest[:states], rest[states:]
        reset = rest[0] if memory else None
        *noise, epsilon = rest[1:] if memory else rest
        before = torch.cat(memory, 1) if memory else None
        values, after = self.values(leaves, before, reset)
        agents, width = len(self.values.actions), self.values.width
        mask = self.mask(given)
        chosen = epsilon_greedy(
            values.reshape(-1, width),
            epsilon.unsqueeze(1).expand(-1, agents).reshape(-1),
            torch.cat(noise, 1).reshape(-1, noise[0].shape[2]),
            None if mask is None else mask.expand_as(values).reshape(-1, width),
        )
        return (
            *self._of_groups(chosen.action),
            *self._of_groups(chosen.greedy),
            *(() if after is None else [after[:, places].clone() for places in self._places]),
        )

    def mask(self, given: Sequence[Tensor]) -> Tensor | None:
        """The masks of the groups that have one, [N, n, *], as one of all agents.

        Returns:
            [N, A, W], or [1, A, W] where no group has one; None where all actions always are there.
        """
        there = cast("Tensor", self.there)
        if not given:
            return there if self._fixed else None
        rest, parts = list(given), []
        for masked, size, places in zip(self._masked, self._sizes, self._places, strict=True):
            if masked:
                own = rest.pop(0)
                parts.append(padded(own, self.values.width))
            else:
                whole = there[:, places]
                parts.append(whole.expand(given[0].shape[0], size, self.values.width))
        return torch.cat(parts, 1)

    def _of_groups(self, actions: Tensor) -> list[Tensor]:
        """Numbers [N A] from 0 on to the actions [N, n] of each group."""
        of_agents = actions.reshape(-1, len(self.values.actions))
        return [
            of_agents[:, places] + start
            for places, start in zip(self._places, self.starts, strict=True)
        ]


def _there(values: AgentValues) -> Tensor:
    """[1, A, W] bool, the actions that an agent has among those of all."""
    return (torch.arange(values.width) < torch.tensor(values.actions)[:, None])[None]
