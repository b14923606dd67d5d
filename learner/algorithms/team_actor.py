"""Several agents with stochastic policies in one graph.

Agents of all groups stand side by side, in the order of the environment's `agents`. What they
observe is padded with zeros to the widest, and of what a network answers an agent takes as many
numbers as its actions have; nothing is padded outside the graph. To an update, agent a of row m is
row number m A + a.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import spaces
from common.signature import ColumnKey, Role
from learner.algorithms import behaviour
from learner.algorithms.actor_critic import RoundPolicy
from learner.algorithms.group_of_agents import group_of_agents
from learner.algorithms.policy_sharing import members_of
from learner.algorithms.rollout import LOG_PROB, RAW_ACTION
from learner.algorithms.sequences import MEMORY
from learner.algorithms.team_networks import RememberingNetworks
from learner.networks.agent_features import AgentFeatures
from learner.networks.distributions import ActionDistribution, distribution_of
from learner.networks.observations import RawObservations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.signature import GraphInput, GraphOutput
    from common.specs import EnvironmentSpec
    from learner.algorithms.team_networks import AgentNetworks, TeamArchitecture
    from learner.networks.agent_memory import AgentMemory


class TeamDistribution(nn.Module):
    """The distributions of all agents' actions; those of a group share what theirs has of its own.

    Args:
        spec: The environment.
        initial_log_std: Of continuous actions.

    Attributes:
        of_groups: The distribution of each group.
        head_width: U, numbers of the widest head.
        width: W, numbers of the widest action as `log_prob` takes it.
    """

    def __init__(self, spec: EnvironmentSpec, *, initial_log_std: float) -> None:
        super().__init__()
        self.of_groups = nn.ModuleList(
            distribution_of(group.action, initial_log_std=initial_log_std) for group in spec.groups
        )
        self._agents = len(spec.agents)
        self._places = [spec.places()[group.name] for group in spec.groups]
        # A Dict has no distribution, and was refused.
        self._actions = [cast("spaces.Leaf", group.action) for group in spec.groups]
        self.head_width = max(each.width for each in self.each())
        self.width = max(math.prod(action.shape) for action in self._actions)

    def each(self) -> list[ActionDistribution]:
        """Group after group."""
        return [cast("ActionDistribution", one) for one in self.of_groups]

    def encode(self, group: int, actions: Tensor) -> Tensor:
        """Recorded actions `[N, n, ...]` of a group to [N, n, W] float32."""
        numbers = self.each()[group].encode(actions).reshape(*actions.shape[:2], -1)
        return F.pad(numbers.to(torch.float32), (0, self.width - numbers.shape[2]))

    def log_prob(self, head: Tensor, actions: Tensor, masks: Tensor | None) -> Tensor:
        """[M A], of actions [M A, W] under heads [M A, U] and masks [M A, U]."""
        found = []
        for number, (distribution, own, mask) in enumerate(self._apart(head, masks)):
            of_group = distribution.log_prob(own, self._taken(actions, number), mask)
            found.append(self._by_row(of_group, number))
        return torch.cat(found, 1).flatten()

    def _taken(self, actions: Tensor, number: int) -> Tensor:
        """A group's actions [M n, ...] as its distribution takes them, of those of all [M A, W]."""
        space, own = self._actions[number], self._own(actions, number)
        match space:
            case spaces.Discrete():
                return own[:, 0].long()
            case spaces.MultiDiscrete():
                return own[:, : len(space.n)].long()
            case _:
                return own[:, : math.prod(space.shape)]

    def entropy(self, head: Tensor, masks: Tensor | None) -> Tensor:
        """[M A], the same way."""
        found = [
            self._by_row(distribution.entropy(own, mask), number)
            for number, (distribution, own, mask) in enumerate(self._apart(head, masks))
        ]
        return torch.cat(found, 1).flatten()

    def _apart(
        self, head: Tensor, masks: Tensor | None
    ) -> list[tuple[ActionDistribution, Tensor, Tensor | None]]:
        """Each group's distribution with its heads and masks, [M n, own U]."""
        found = []
        for number, distribution in enumerate(self.each()):
            width = distribution.width
            mask = None if masks is None else self._own(masks, number)[:, :width]
            found.append((distribution, self._own(head, number)[:, :width], mask))
        return found

    def _own(self, rows: Tensor, number: int) -> Tensor:
        """Of rows [M A, ...] those of a group, [M n, ...]."""
        if len(self._places) == 1:
            return rows
        by_agent = rows.reshape(-1, self._agents, *rows.shape[1:])
        return by_agent[:, self._places[number]].flatten(0, 1)

    def _by_row(self, of_group: Tensor, number: int) -> Tensor:
        """[M n] to [M, n]."""
        places = self._places[number]
        return of_group.reshape(-1, places.stop - places.start)


class OwnObservations(nn.Module):
    """What stands in front of heads, or of a memory: what each agent makes of its observation.

    Args:
        seen: The first of a row's parts to features.
        layers: [M A, F] to features; None takes them as they are.
    """

    def __init__(self, seen: AgentFeatures, layers: nn.Module | None = None) -> None:
        super().__init__()
        self.seen = seen
        self.layers = layers

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts `[M, ...]` to [M A, F]."""
        rows: Tensor = self.seen(parts[: self.seen.parts]).flatten(0, 1)
        return rows if self.layers is None else self.layers(rows)


class TeamActor(RoundPolicy):
    """Observations of all agents, masks and noise to the actions of all.

    Records for each group `log_prob`, and for continuous actions `raw_action`, before clipping.
    Agents with a memory are fed their states, group by group, and whether an episode begins; the
    states that a segment begins with travel with it.

    Args:
        spec: The environment.
        architecture: How each policy is built.
        network: `auto` or `module:factory`, see `AgentFeatures`.
        initial_log_std: Of continuous actions.
        global_state: Whether the environment's global state is recorded.

    Attributes:
        groups: Who acts, group after group.

    Raises:
        UnsupportedSpaceError: A group has a space that is not supported.
    """

    distribution: TeamDistribution
    encoder: OwnObservations
    memory: AgentMemory | None
    head: AgentNetworks

    def __init__(
        self,
        spec: EnvironmentSpec,
        architecture: TeamArchitecture,
        *,
        network: str,
        initial_log_std: float,
        global_state: bool,
    ) -> None:
        distribution = TeamDistribution(spec, initial_log_std=initial_log_std)
        own = distribution.each()
        groups = [
            group_of_agents(spec, group, mask_width=one.mask_width)
            for group, one in zip(spec.groups, own, strict=True)
        ]
        observed = [behaviour.observation_inputs(spec, group) for group in spec.groups]
        outputs: list[GraphOutput] = []
        for group, one in zip(spec.groups, own, strict=True):
            outputs += behaviour.action_outputs(spec, group)
            outputs.append(behaviour.record_output(spec, group, LOG_PROB))
            if one.records_raw:
                outputs.append(behaviour.record_output(spec, group, RAW_ACTION, (one.width,)))
        states = _states(spec, architecture.recurrent_units)
        super().__init__(
            inputs=(
                *(tensor for tensors, _ in observed for tensor in tensors),
                *(
                    behaviour.mask_input(spec, each.group, one.width)
                    for each, one in zip(groups, own, strict=True)
                    if each.masked
                ),
                *states,
                *([behaviour.reset_input()] if states else []),
                *(
                    behaviour.noise_input(spec, group, one.noise, one.noise_shape)
                    for group, one in zip(spec.groups, own, strict=True)
                ),
            ),
            outputs=[*outputs, *map(behaviour.next_state, states)],
            pushed_states=[MEMORY] if states else [],
            leaves={name: leaf for _, leaves in observed for name, leaf in leaves.items()},
            global_state=global_state,
            structure=f"{behaviour.structure_of(spec)} {architecture.sharing}",
        )
        self._agents = len(spec.agents)
        self.groups = tuple(groups)
        self.preprocess = RawObservations()
        seen = AgentFeatures(spec, members_of(spec, architecture.sharing), network)
        layers = architecture.layers(spec, seen.real, distribution.head_width, head_gain=0.01)
        if isinstance(layers, RememberingNetworks):
            self.encoder = OwnObservations(seen, layers.body)
            self.memory, self.head = layers.memory, layers.head
        else:
            self.encoder, self.memory, self.head = OwnObservations(seen), None, layers
        self.distribution = distribution

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `inputs` lists to what `outputs` lists."""
        given = {
            ColumnKey(tensor.role, tensor.group, tensor.key): value
            for tensor, value in zip(self.inputs, inputs, strict=True)
        }
        features = self.encoder(self.parts(given))
        if self.memory is not None:
            reset = given[ColumnKey(Role.RESET)].unsqueeze(1).expand(-1, self._agents)
            features = self.memory(features, self.states(given), reset.flatten())
        heads = self.head(features)
        by_agent = heads.reshape(-1, self._agents, heads.shape[1])
        answers: list[Tensor] = []
        for each, distribution in zip(self.groups, self.distribution.each(), strict=True):
            head = by_agent[:, each.places, : distribution.width]
            noise = given[ColumnKey(Role.NOISE, each.group.name)]
            mask = given[each.masked].flatten(0, 1) if each.masked else None
            act = distribution.act(head.flatten(0, 1), noise.flatten(0, 1), mask)
            found = [act.action, act.greedy, act.log_prob]
            found += [] if act.raw is None else [act.raw]
            agents = head.shape[1]
            answers += [one.reshape(-1, agents, *one.shape[1:]) for one in found]
        return (*answers, *self._next_states(features))

    def _next_states(self, features: Tensor) -> list[Tensor]:
        """Of each group [N, n, H], from the memory's features; none without a memory."""
        if self.memory is None:
            return []
        by_agent = features.reshape(-1, self._agents, features.shape[1])
        return [by_agent[:, each.places].clone() for each in self.groups]

    def parts(self, columns: Mapping[ColumnKey, Tensor]) -> list[Tensor]:
        """What the encoder takes, `[N, ...]`, from columns `[N, n, ...]`."""
        return self.encoder.seen.preprocess(columns)

    def states(self, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """[N A, H] of a policy with a memory, from columns `[N, n, H]`."""
        keys = [ColumnKey(Role.STATE, each.group.name, MEMORY) for each in self.groups]
        return torch.cat([columns[key] for key in keys], 1).flatten(0, 1)

    def masks(self, columns: Mapping[ColumnKey, Tensor], rows: int) -> Tensor | None:
        """[N, A, U] bool of N rows, all true where a group has none; None where none has one."""
        if not any(each.masked for each in self.groups):
            return None
        width, found = self.distribution.head_width, []
        for each, distribution in zip(self.groups, self.distribution.each(), strict=True):
            if each.masked:
                own = columns[each.masked][:rows]
                found.append(F.pad(own, (0, width - distribution.width)))
            else:
                agents = len(each.group.agents)
                device = next(iter(columns.values())).device
                found.append(torch.ones(rows, agents, width, dtype=torch.bool, device=device))
        return torch.cat(found, 1)


def _states(spec: EnvironmentSpec, units: int) -> list[GraphInput]:
    """The state of each group's agents, [n, H]; none without units."""
    if not units:
        return []
    return [
        behaviour.initial_state(
            np.zeros((len(group.agents), units), np.float32), group.name, MEMORY
        )
        for group in spec.groups
    ]
