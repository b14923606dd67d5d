"""Several agents with stochastic policies in one graph, and the critics that stay at home.

Agents of all groups stand side by side, in the order of the environment's `agents`. Observations
are padded with zeros to the widest group's, and of what a network answers an agent takes as many
numbers as its actions have; nothing is padded outside the graph. To an update, agent a of row m is
row number m A + a.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import spaces
from common.signature import ColumnKey, Role
from learner.algorithms import behaviour
from learner.algorithms.actor_critic import RoundPolicy
from learner.algorithms.group_of_agents import GroupOfAgents, side_by_side
from learner.algorithms.policy_sharing import shared_networks
from learner.algorithms.rollout import LOG_PROB, RAW_ACTION
from learner.networks.distributions import ActionDistribution, distribution_of
from learner.networks.observations import RawObservations
from learner.networks.stacked_mlp import StackedMLP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.signature import GraphOutput
    from common.specs import EnvironmentSpec
    from learner.algorithms.policy_sharing import PolicySharing
    from learner.networks.bodies import Activation


class AgentNetworks(nn.Module):
    """The network that each agent has, or shares; sharers are told apart by a one-hot vector.

    Args:
        spec: The environment.
        sharing: Which agents share one.
        features: F, numbers of a row.
        hidden_sizes: Hidden layers of each.
        outputs: O.
        activation: Of the hidden layers.
        head_gain: Of the orthogonal initialisation of the last layers.
    """

    ids: Tensor | None
    which: Tensor | None

    def __init__(
        self,
        spec: EnvironmentSpec,
        sharing: PolicySharing,
        features: int,
        hidden_sizes: Sequence[int],
        outputs: int,
        *,
        activation: Activation,
        head_gain: float,
    ) -> None:
        super().__init__()
        count, ids, which = shared_networks(spec, sharing)
        self.register_buffer("ids", ids, persistent=False)
        # One network takes the rows of all agents as they stand.
        self.register_buffer("which", None if count == 1 else which, persistent=False)
        self._agents, self._single = len(spec.agents), count == 1
        self.layers = StackedMLP(
            count,
            features + (0 if ids is None else ids.shape[1]),
            hidden_sizes,
            outputs,
            activation=activation,
            head_gain=head_gain,
        )

    def forward(self, rows: Tensor) -> Tensor:
        """[M A, F] to [M A, O]."""
        by_agent = rows.reshape(-1, self._agents, rows.shape[1])
        if self.ids is not None:
            ids = self.ids.expand(by_agent.shape[0], -1, -1)
            by_agent = torch.cat((by_agent, ids), 2)
        if self._single:
            found: Tensor = self.layers(by_agent.flatten(0, 1).unsqueeze(0))
            return found.squeeze(0)
        found = self.layers(by_agent.transpose(0, 1), self.which)
        return found.transpose(0, 1).flatten(0, 1)


class TeamDistribution(nn.Module):
    """The distributions of all agents' actions; those of a group share what theirs has of its own.

    Args:
        spec: The environment.
        groups: What lies between spaces and networks, group after group.
        initial_log_std: Of continuous actions.

    Attributes:
        of_groups: The distribution of each group.
        head_width: U, numbers of the widest head.
        width: W, numbers of the widest action as `log_prob` takes it.
    """

    def __init__(
        self, spec: EnvironmentSpec, groups: Sequence[GroupOfAgents], *, initial_log_std: float
    ) -> None:
        super().__init__()
        self.of_groups = nn.ModuleList(
            distribution_of(each.group.action, initial_log_std=initial_log_std) for each in groups
        )
        self._agents = len(spec.agents)
        self._places = [each.places for each in groups]
        self._discrete = [isinstance(each.group.action, spaces.Discrete) for each in groups]
        self.head_width = max(each.width for each in self.each())
        self.width = max(
            1 if discrete else each.width
            for discrete, each in zip(self._discrete, self.each(), strict=True)
        )

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
            taken = self._own(actions, number)
            if self._discrete[number]:
                of_group = distribution.log_prob(own, taken[:, 0].long(), mask)
            else:
                of_group = distribution.log_prob(own, taken[:, : distribution.width], mask)
            found.append(self._by_row(of_group, number))
        return torch.cat(found, 1).flatten()

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


class AsObserved(nn.Module):
    """What an actor's heads take of a row's parts: the observation, the first of them."""

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts `[R, ...]` to [R, F]."""
        return parts[0]


class TeamActor(RoundPolicy):
    """Observations of all agents, masks and noise to the actions of all.

    Records for each group `log_prob`, and for continuous actions `raw_action`, before clipping.

    Args:
        spec: The environment.
        name: The algorithm's.
        sharing: Which agents share a policy.
        hidden_sizes: Hidden layers of each policy.
        activation: Of the hidden layers.
        initial_log_std: Of continuous actions.
        global_state: Whether the environment's global state is recorded.

    Attributes:
        groups: What lies between spaces and networks, group after group.
        observed: F, numbers of the widest observation.

    Raises:
        UnsupportedSpaceError: A group has a space that is not supported.
    """

    distribution: TeamDistribution

    def __init__(
        self,
        spec: EnvironmentSpec,
        name: str,
        *,
        sharing: PolicySharing,
        hidden_sizes: Sequence[int],
        activation: Activation,
        initial_log_std: float,
        global_state: bool,
    ) -> None:
        groups = [GroupOfAgents(spec, group, name) for group in spec.groups]
        distribution = TeamDistribution(spec, groups, initial_log_std=initial_log_std)
        own = distribution.each()
        observed = [behaviour.observation_inputs(spec, group) for group in spec.groups]
        outputs: list[GraphOutput] = []
        for group, one in zip(spec.groups, own, strict=True):
            outputs += behaviour.action_outputs(spec, group)
            outputs.append(behaviour.record_output(spec, group, LOG_PROB))
            if one.records_raw:
                outputs.append(behaviour.record_output(spec, group, RAW_ACTION, (one.width,)))
        super().__init__(
            inputs=(
                *(tensor for tensors, _ in observed for tensor in tensors),
                *(
                    behaviour.mask_input(spec, each.group, one.width)
                    for each, one in zip(groups, own, strict=True)
                    if each.masked
                ),
                *(
                    behaviour.noise_input(spec, group, one.noise, one.noise_shape)
                    for group, one in zip(spec.groups, own, strict=True)
                ),
            ),
            outputs=outputs,
            leaves={name: leaf for _, leaves in observed for name, leaf in leaves.items()},
            global_state=global_state,
            structure=f"{behaviour.structure_of(spec)} {sharing}",
        )
        self._agents = len(spec.agents)
        self.groups = tuple(groups)
        self._groups = nn.ModuleList(groups)  # so that their buffers are the policy's
        self.observed = max(each.features for each in groups)
        self.preprocess = RawObservations()
        self.encoder = AsObserved()
        self.memory = None
        self.head = AgentNetworks(
            spec,
            sharing,
            self.observed,
            hidden_sizes,
            distribution.head_width,
            activation=activation,
            head_gain=0.01,
        )
        self.distribution = distribution

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `inputs` lists to what `outputs` lists."""
        given = {
            ColumnKey(tensor.role, tensor.group, tensor.key): value
            for tensor, value in zip(self.inputs, inputs, strict=True)
        }
        heads = self.head(self.observations(given).flatten(0, 1))
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
        return tuple(answers)

    def observations(self, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """[N, A, F], padded with zeros, from columns `[N, n, ...]`."""
        return side_by_side(
            [each([columns[key] for key in each.observed]) for each in self.groups], self.observed
        )

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


class TeamCritic(nn.Module):
    """The values of all agents, from the last part of their rows.

    Args:
        layers: [M A, S] -> [M A, 1].
    """

    def __init__(self, layers: AgentNetworks) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, parts: Sequence[Tensor], features: Tensor | None) -> Tensor:
        """Parts `[M A, ...]` to values [M A]; the actor's features are not looked at."""
        del features
        values: Tensor = self.layers(parts[-1]).squeeze(1)
        return values
