"""The behaviour policy of several agents: one graph, one call for all of them.

Agents of all groups stand side by side in one stack of networks. What they observe is padded with
zeros to the widest, and of what a network answers a group takes as many numbers as its actions
have; nothing is padded outside the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from common.signature import ColumnKey, Noise, Role
from learner.algorithms import behaviour
from learner.algorithms.group_of_agents import GroupOfAgents, group_of_agents, side_by_side
from learner.algorithms.policy_sharing import members_of, shared_networks
from learner.algorithms.replay_actor_critic import RANDOM_SHARE
from learner.networks.agent_actions import AgentActions, agent_actions
from learner.networks.agent_features import AgentFeatures
from learner.networks.stacked_mlp import StackedMLP
from learner.networks.teams import padded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.specs import EnvironmentSpec
    from learner.algorithms.policy_sharing import PolicySharing
    from learner.networks.bodies import Activation

NOISE_SCALE = "noise_scale"
"""The key of the exploration value that noise on continuous actions is multiplied by."""

_UNIFORM, _NORMAL = "uniform", "normal"


class JointPolicies(nn.Module):
    """What agents observe to what their policies answer.

    Args:
        spec: The environment.
        sharing: Which agents share a policy. Those that do are told apart by a one-hot vector.
        network: `auto` or `module:factory`, see `AgentFeatures`.
        hidden_sizes: Hidden layers of each policy.
        width: U, numbers of an answer.
        activation: Of the hidden layers.

    Attributes:
        seen: Observations to features.
        layers: Behind them, one MLP for each policy.
    """

    ids: Tensor | None
    which: Tensor | None

    def __init__(
        self,
        spec: EnvironmentSpec,
        *,
        sharing: PolicySharing,
        network: str,
        hidden_sizes: Sequence[int],
        width: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        count, ids, which = shared_networks(spec, sharing)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("which", which, persistent=False)
        self.seen = AgentFeatures(spec, members_of(spec, sharing), network)
        self.layers = StackedMLP(
            count,
            self.seen.features + (0 if ids is None else ids.shape[1]),
            hidden_sizes,
            width,
            activation=activation,
            head_gain=0.01,
        )

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """What `seen` takes, `[N, ...]`, to [A, N, U]."""
        observed: Tensor = self.seen(parts).transpose(0, 1)
        if self.ids is not None:
            ids = self.ids.unsqueeze(1).expand(-1, observed.shape[1], -1)
            observed = torch.cat((observed, ids), 2)
        heads: Tensor = self.layers(observed, self.which)
        return heads

    def clip_gradients(self, norm: float | None) -> Tensor:
        """Scales the gradient of each policy down to a norm; answers the norms before, [P]."""
        return self.layers.clip_gradients(norm, self.seen.encoders())


class JointActor(behaviour.BehaviourPolicy):
    """Observations of all agents, their masks, noise and exploration values to all their actions.

    Args:
        spec: The environment.
        name: The algorithm's.
        sharing: Which agents share a policy.
        network: `auto` or `module:factory`, see `AgentFeatures`.
        hidden_sizes: Hidden layers of each policy.
        activation: Of the hidden layers.

    Attributes:
        groups: Who acts, group after group.
        actor: The policies.
        width: U, numbers of the widest action.

    Raises:
        UnsupportedSpaceError: A group has actions of a space that is not supported.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        name: str,
        *,
        sharing: PolicySharing,
        network: str,
        hidden_sizes: Sequence[int],
        activation: Activation,
    ) -> None:
        actions = [agent_actions(group.action, name) for group in spec.groups]
        groups = [
            group_of_agents(spec, group, mask_width=own.mask_width)
            for group, own in zip(spec.groups, actions, strict=True)
        ]
        observed = [behaviour.observation_inputs(spec, group) for group in spec.groups]
        drifting = [
            (group, own.width)
            for group, own in zip(spec.groups, actions, strict=True)
            if own.drifts
        ]
        super().__init__(
            inputs=(
                *(tensor for tensors, _ in observed for tensor in tensors),
                *(
                    behaviour.mask_input(spec, each.group, own.width)
                    for each, own in zip(groups, actions, strict=True)
                    if each.masked
                ),
                *(
                    behaviour.noise_input(
                        spec, group, Noise.OPEN_UNIFORM, (1 + own.width,), _UNIFORM
                    )
                    for group, own in zip(spec.groups, actions, strict=True)
                ),
                *(
                    behaviour.noise_input(spec, group, Noise.STANDARD_NORMAL, (width,), _NORMAL)
                    for group, width in drifting
                ),
                behaviour.scalar_input(RANDOM_SHARE),
                *([behaviour.scalar_input(NOISE_SCALE)] if drifting else []),
            ),
            outputs=tuple(
                output for group in spec.groups for output in behaviour.action_outputs(spec, group)
            ),
            leaves={name: leaf for _, leaves in observed for name, leaf in leaves.items()},
            global_state=False,
            structure=f"{behaviour.structure_of(spec)} {sharing}",
        )
        self.groups = tuple(groups)
        self.drifts = bool(drifting)
        self.width = max(own.width for own in actions)
        self._actions = nn.ModuleList(actions)
        self.actor = JointPolicies(
            spec,
            sharing=sharing,
            network=network,
            hidden_sizes=hidden_sizes,
            width=self.width,
            activation=activation,
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `inputs` lists to what `outputs` lists."""
        given = {
            ColumnKey(tensor.role, tensor.group, tensor.key): value
            for tensor, value in zip(self.inputs, inputs, strict=True)
        }
        share = given[ColumnKey(Role.SCALAR, "", RANDOM_SHARE)]
        heads = self.actor(self.parts(given))
        answers = []
        for each, actions, numbers in self._by_group(heads):
            name = each.group.name
            head = numbers.transpose(0, 1)
            mask = given[each.masked] if each.masked else None
            drift = None
            if actions.drifts:
                scale = given[ColumnKey(Role.SCALAR, "", NOISE_SCALE)]
                drift = given[ColumnKey(Role.NOISE, name, _NORMAL)] * scale[:, None, None]
            uniform = given[ColumnKey(Role.NOISE, name, _UNIFORM)]
            answers += [
                actions.explored(head, mask, uniform, share, drift),
                actions.greedy(head, mask),
            ]
        return tuple(answers)

    def parts(self, columns: Mapping[ColumnKey, Tensor]) -> list[Tensor]:
        """What the policies take, `[N, ...]`, from columns `[N, n, ...]`."""
        return self.actor.seen.preprocess(columns)

    def actions(self, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """[A, N, U] as critics see them, padded with zeros, from columns `[N, n, ...]`."""
        found = [
            own.encode(columns[each.acted])
            for each, own in zip(self.groups, self._each_actions(), strict=True)
        ]
        return side_by_side(found, self.width).transpose(0, 1)

    def best(self, heads: Tensor, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """The best actions as critics see them, [A, N, U], of heads [A, N, U]."""
        return torch.cat(
            [
                padded(own.best(head, _masks(each, columns)), self.width)
                for each, own, head in self._by_group(heads)
            ]
        )

    def relaxed(self, heads: Tensor, gumbel: Tensor, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """Actions as critics see them, through which a gradient reaches the heads; all [A, N, U].

        Args:
            heads: Of the policies.
            gumbel: Draws from the standard Gumbel distribution.
            columns: Where action masks are, `[N, n, ...]`.
        """
        return torch.cat(
            [
                padded(own.relaxed(head, _masks(each, columns), noise), self.width)
                for (each, own, head), (_, _, noise) in zip(
                    self._by_group(heads), self._by_group(gumbel), strict=True
                )
            ]
        )

    def mean_squares(self, heads: Tensor) -> Tensor:
        """Of the numbers that an agent's actions have, [A, N], of heads [A, N, U]."""
        return torch.cat([part.square().mean(2) for _, _, part in self._by_group(heads)])

    def _each_actions(self) -> list[AgentActions]:
        """Group after group."""
        return [cast("AgentActions", own) for own in self._actions]

    def _by_group(self, numbers: Tensor) -> list[tuple[GroupOfAgents, AgentActions, Tensor]]:
        """Each group with what its actions mean and its own [n, N, own U] of [A, N, U]."""
        return [
            (each, own, numbers[each.places, :, : own.width] if len(self.groups) > 1 else numbers)
            for each, own in zip(self.groups, self._each_actions(), strict=True)
        ]


def _masks(each: GroupOfAgents, columns: Mapping[ColumnKey, Tensor]) -> Tensor | None:
    """[n, N, own U] bool, or None."""
    return columns[each.masked].transpose(0, 1) if each.masked else None
