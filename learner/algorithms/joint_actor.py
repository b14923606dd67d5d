"""The behaviour policy of several agents: one graph, one call for all of them.

Agents of all groups stand side by side in one stack of networks. Observations are padded with zeros
to the widest group's, and of what a network answers a group takes as many numbers as its actions
have; nothing is padded outside the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.signature import ColumnKey, Noise, Role
from learner.algorithms import behaviour
from learner.algorithms.group_of_agents import GroupOfAgents, side_by_side
from learner.algorithms.policy_sharing import shared_networks
from learner.algorithms.replay_actor_critic import RANDOM_SHARE
from learner.networks.stacked_mlp import StackedMLP
from learner.networks.teams import padded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from common.specs import EnvironmentSpec
    from learner.algorithms.policy_sharing import PolicySharing
    from learner.networks.bodies import Activation

NOISE_SCALE = "noise_scale"
"""The key of the exploration value that noise on continuous actions is multiplied by."""

_UNIFORM, _NORMAL = "uniform", "normal"


class JointActor(behaviour.BehaviourPolicy):
    """Observations of all agents, their masks, noise and exploration values to all their actions.

    Args:
        spec: The environment.
        name: The algorithm's.
        sharing: Which agents share a policy. Those that do are told apart by a one-hot vector.
        hidden_sizes: Hidden layers of each policy.
        activation: Of the hidden layers.

    Attributes:
        groups: What lies between spaces and networks, group after group.
        actor: The policies.
        features: F, numbers of the widest observation.
        width: U, numbers of the widest action.

    Raises:
        UnsupportedSpaceError: A group has a space that is not supported.
    """

    ids: Tensor | None
    policies: Tensor | None

    def __init__(
        self,
        spec: EnvironmentSpec,
        name: str,
        *,
        sharing: PolicySharing,
        hidden_sizes: Sequence[int],
        activation: Activation,
    ) -> None:
        groups = [GroupOfAgents(spec, group, name) for group in spec.groups]
        observed = [behaviour.observation_inputs(spec, group) for group in spec.groups]
        drifting = [each for each in groups if each.actions.drifts]
        super().__init__(
            inputs=(
                *(tensor for tensors, _ in observed for tensor in tensors),
                *(
                    behaviour.mask_input(spec, each.group, each.actions.width)
                    for each in groups
                    if each.masked
                ),
                *(
                    behaviour.noise_input(
                        spec, each.group, Noise.OPEN_UNIFORM, (1 + each.actions.width,), _UNIFORM
                    )
                    for each in groups
                ),
                *(
                    behaviour.noise_input(
                        spec, each.group, Noise.STANDARD_NORMAL, (each.actions.width,), _NORMAL
                    )
                    for each in drifting
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
        self._groups = nn.ModuleList(groups)  # so that their buffers are the policy's
        self.drifts = bool(drifting)
        self.features = max(each.features for each in groups)
        self.width = max(each.actions.width for each in groups)
        count, ids, which = shared_networks(spec, sharing)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("policies", which, persistent=False)
        self.actor = StackedMLP(
            count,
            self.features + (0 if ids is None else ids.shape[1]),
            hidden_sizes,
            self.width,
            activation=activation,
            head_gain=0.01,
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `inputs` lists to what `outputs` lists."""
        given = {
            ColumnKey(tensor.role, tensor.group, tensor.key): value
            for tensor, value in zip(self.inputs, inputs, strict=True)
        }
        share = given[ColumnKey(Role.SCALAR, "", RANDOM_SHARE)]
        heads = self.heads(self.actor, self.observations(given))
        answers = []
        for each, numbers in zip(self.groups, self._apart(heads), strict=True):
            name, actions = each.group.name, each.actions
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

    def heads(self, actor: StackedMLP, observations: Tensor) -> Tensor:
        """What policies answer, [A, N, U], to observations [A, N, F]; `actor` may be a target."""
        if self.ids is not None:
            ids = self.ids.unsqueeze(1).expand(-1, observations.shape[1], -1)
            observations = torch.cat((observations, ids), 2)
        heads: Tensor = actor(observations, self.policies)
        return heads

    def observations(self, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """[A, N, F], padded with zeros, from columns `[N, n, ...]`."""
        found = [each([columns[key] for key in each.observed]) for each in self.groups]
        return side_by_side(found, self.features).transpose(0, 1)

    def actions(self, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """[A, N, U] as critics see them, padded with zeros, from columns `[N, n, ...]`."""
        found = [each.actions.encode(columns[each.acted]) for each in self.groups]
        return side_by_side(found, self.width).transpose(0, 1)

    def best(self, heads: Tensor, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """The best actions as critics see them, [A, N, U], of heads [A, N, U]."""
        return self._of_heads(
            heads, columns, lambda each, head, mask: each.actions.best(head, mask)
        )

    def relaxed(self, heads: Tensor, gumbel: Tensor, columns: Mapping[ColumnKey, Tensor]) -> Tensor:
        """Actions as critics see them, through which a gradient reaches the heads; all [A, N, U].

        Args:
            heads: From `heads`.
            gumbel: Draws from the standard Gumbel distribution.
            columns: Where action masks are, `[N, n, ...]`.
        """
        noise = dict(zip(self.groups, self._apart(gumbel), strict=True))
        return self._of_heads(
            heads, columns, lambda each, head, mask: each.actions.relaxed(head, mask, noise[each])
        )

    def mean_squares(self, heads: Tensor) -> Tensor:
        """Of the numbers that an agent's actions have, [A, N], of heads [A, N, U]."""
        return torch.cat([part.square().mean(2) for part in self._apart(heads)])

    def _of_heads(
        self,
        heads: Tensor,
        columns: Mapping[ColumnKey, Tensor],
        of_group: Callable[[GroupOfAgents, Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        """[A, N, U] of what groups make of their heads [n, N, ...] and masks."""
        found = []
        for each, head in zip(self.groups, self._apart(heads), strict=True):
            mask = columns[each.masked].transpose(0, 1) if each.masked else None
            found.append(padded(of_group(each, head, mask), self.width))
        return torch.cat(found)

    def _apart(self, numbers: Tensor) -> list[Tensor]:
        """[A, N, U] as each group's [n, N, own U]."""
        if len(self.groups) == 1:
            return [numbers]
        return [numbers[each.places, :, : each.actions.width] for each in self.groups]
