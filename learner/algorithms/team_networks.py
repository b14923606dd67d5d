"""The networks of several agents, and the critics that stay at home.

Rows of all agents lie side by side: agent a of row m is row number m A + a.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learner.algorithms.policy_sharing import members_of, shared_networks
from learner.algorithms.sequences import remembered
from learner.networks.agent_memory import AgentMemory
from learner.networks.bodies import HIDDEN_GAIN, activation_layer
from learner.networks.stacked_mlp import StackedMLP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.specs import EnvironmentSpec
    from learner.algorithms.policy_sharing import PolicySharing
    from learner.algorithms.rollout import Rollout
    from learner.algorithms.sequences import Past
    from learner.networks.agent_features import AgentFeatures
    from learner.networks.bodies import Activation

_EPSILON = 1e-5
"""Added to a variance before its root is divided by, as `torch.nn.LayerNorm` does."""


class FeatureNorm(nn.Module):
    """Brings the numbers of every row to mean 0 and deviation 1, each row by itself.

    Ba et al. 2016, https://arxiv.org/abs/1607.06450, before anything is learned, as in Yu et al.
    2022. Gain and shift are left to the layer behind. Padding counts in nothing and stays 0.

    Args:
        real: [A, F] bool, the numbers of each agent that are no padding.
    """

    real: Tensor | None

    def __init__(self, real: Tensor) -> None:
        super().__init__()
        whole = bool(real.all())
        self.register_buffer("real", None if whole else real.to(torch.float32), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[M, A, F] to the same."""
        if self.real is None:
            return F.layer_norm(rows, rows.shape[2:], eps=_EPSILON)
        count = self.real.sum(1, keepdim=True)
        centred = (rows - rows.sum(2, keepdim=True) / count) * self.real
        variance = centred.square().sum(2, keepdim=True) / count
        return centred / (variance + _EPSILON).sqrt()


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
        told_apart: Whether sharers are: behind a memory they have been already.
        norm: What rows go through first; None takes them as they are.
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
        told_apart: bool = True,
        norm: FeatureNorm | None = None,
    ) -> None:
        super().__init__()
        count, ids, which = shared_networks(spec, sharing)
        ids = ids if told_apart else None
        self.register_buffer("ids", ids, persistent=False)
        # One network takes the rows of all agents as they stand.
        self.register_buffer("which", None if count == 1 else which, persistent=False)
        self._agents, self._single = len(spec.agents), count == 1
        self.norm = norm
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
        if self.norm is not None:
            by_agent = self.norm(by_agent)
        if self.ids is not None:
            ids = self.ids.expand(by_agent.shape[0], -1, -1)
            by_agent = torch.cat((by_agent, ids), 2)
        if self._single:
            found: Tensor = self.layers(by_agent.flatten(0, 1).unsqueeze(0))
            return found.squeeze(0)
        found = self.layers(by_agent.transpose(0, 1), self.which)
        return found.transpose(0, 1).flatten(0, 1)


class RememberingNetworks(nn.Module):
    """Hidden layers, a memory behind them, and a layer behind that, for each agent.

    Args:
        spec: The environment.
        sharing: Which agents share a network.
        features: F, numbers of a row.
        hidden_sizes: At least one layer.
        outputs: O.
        units: H, of the memory.
        activation: Of the hidden layers.
        head_gain: Of the orthogonal initialisation of the last layers.
        norm: What rows go through first; None takes them as they are.

    Attributes:
        body: [M A, F] to what the memory takes.
        memory: That to its states.
        head: [M A, H] to [M A, O].
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        sharing: PolicySharing,
        features: int,
        hidden_sizes: Sequence[int],
        outputs: int,
        *,
        units: int,
        activation: Activation,
        head_gain: float,
        norm: FeatureNorm | None = None,
    ) -> None:
        super().__init__()
        *before, last = hidden_sizes
        self.body = nn.Sequential(
            AgentNetworks(
                spec,
                sharing,
                features,
                before,
                last,
                activation=activation,
                head_gain=HIDDEN_GAIN,
                norm=norm,
            ),
            activation_layer(activation),
        )
        self.memory = AgentMemory(members_of(spec, sharing), last, units)
        self.head = AgentNetworks(
            spec,
            sharing,
            units,
            (),
            outputs,
            activation=activation,
            head_gain=head_gain,
            told_apart=False,
        )


@dataclasses.dataclass(frozen=True)
class TeamArchitecture:
    """How the networks of agents are built, actors and critics alike.

    Attributes:
        sharing: Which agents share one.
        hidden_sizes: Hidden layers of each, in front of the memory if there is one.
        activation: Of the hidden layers.
        recurrent_units: Of the memory; 0 is none.
        normalise_features: Whether what they see goes through `FeatureNorm` first.
    """

    sharing: PolicySharing
    hidden_sizes: tuple[int, ...]
    activation: Activation
    recurrent_units: int
    normalise_features: bool

    def layers(
        self, spec: EnvironmentSpec, real: Tensor, outputs: int, *, head_gain: float
    ) -> AgentNetworks | RememberingNetworks:
        """[M A, F] to [M A, outputs], of rows whose numbers are no padding where `real` [A, F]."""
        norm = FeatureNorm(real) if self.normalise_features else None
        if not self.recurrent_units:
            return AgentNetworks(
                spec,
                self.sharing,
                real.shape[1],
                self.hidden_sizes,
                outputs,
                activation=self.activation,
                head_gain=head_gain,
                norm=norm,
            )
        return RememberingNetworks(
            spec,
            self.sharing,
            real.shape[1],
            self.hidden_sizes,
            outputs,
            units=self.recurrent_units,
            activation=self.activation,
            head_gain=head_gain,
            norm=norm,
        )


class CriticView(nn.Module):
    """What critics see of a row: the own observation of each agent, and of all if they are central.

    Zeros stand in the place of agents that are not there.

    Args:
        seen: Observations to features, the first of a row's parts.
        central: Whether critics see the state of all beside the agent's own observation.
        state: Numbers of the environment's own state; None takes the observations of all agents.

    Attributes:
        real: [A, S] bool, which of what an agent's critic sees is no padding.
    """

    def __init__(self, seen: AgentFeatures, *, central: bool, state: int | None) -> None:
        super().__init__()
        self.seen = seen
        self._central, self._has_state = central, state is not None
        self.real = seen.real
        if central:
            known = seen.real.flatten() if state is None else torch.ones(state) > 0
            self.real = torch.cat((known.expand(len(seen.real), -1), seen.real), 1)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """What critics see.

        Args:
            parts: Those of `seen` `[M, ...]`, who is there [M, A, 1] as 1 or 0, and the
                environment's own state [M, ...] if there is one.

        Returns:
            [M A, S].
        """
        there = parts[self.seen.parts]
        own: Tensor = self.seen(parts[: self.seen.parts]) * there
        if not self._central:
            return own.flatten(0, 1)
        of_all = (parts[-1] if self._has_state else own.flatten(1)).unsqueeze(1)
        return torch.cat((of_all * there, own), 2).flatten(0, 1)


class TeamCritic(nn.Module):
    """The values of all agents.

    Args:
        view: What it sees.
        layers: [M A, S] -> [M A, 1].
    """

    def __init__(self, view: CriticView, layers: AgentNetworks) -> None:
        super().__init__()
        self.view = view
        self.layers = layers

    def forward(self, parts: Sequence[Tensor], features: Tensor | None) -> Tensor:
        """Parts `[M, ...]` to values [M A]; the actor's features are not looked at."""
        del features
        values: Tensor = self.layers(self.view(parts)).squeeze(1)
        return values


class RememberingCritic(nn.Module):
    """The values of all agents, with a memory of what they saw before.

    Args:
        view: What it sees.
        networks: [M A, S] -> [M A, 1].
    """

    def __init__(self, view: CriticView, networks: RememberingNetworks) -> None:
        super().__init__()
        self.view = view
        self.networks = networks

    def forward(self, parts: Sequence[Tensor], past: Past) -> Tensor:
        """Parts `[T B, ...]` of whole fragments, time-major, to values [T B A]."""
        return self._values(self.states(self.entered(parts), past).flatten(0, 1))

    def entered(self, parts: Sequence[Tensor]) -> Tensor:
        """What the memory takes of rows `[M, ...]`, [M A, F]."""
        entered: Tensor = self.networks.body(self.view(parts))
        return entered

    def states(self, entered: Tensor, past: Past) -> Tensor:
        """[T, B A, H], the memory's states after every row of [T B A, F]."""
        sequences = entered.view(*past.reset.shape, -1)
        return self.networks.memory.unroll(sequences, past.initial, past.reset)

    def of_all(self, entered: Tensor, past: Past, data: Rollout) -> Tensor:
        """Of every observation of a round, in the order of its leaves: `[((T + 1) B + N) A]`."""
        states = remembered(
            self.networks.memory,
            entered,
            past,
            final_rows=data.final_rows,
            final_slots=data.final_slots,
        )
        return self._values(states)

    def _values(self, states: Tensor) -> Tensor:
        values: Tensor = self.networks.head(states).squeeze(1)
        return values
