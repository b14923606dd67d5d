"""Observations of all agents as features side by side, in two stages like those of one agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common import spaces
from common.signature import ColumnKey, Role
from learner.networks.teams import TeamObservations, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.specs import EnvironmentSpec
    from learner.networks.teams import Members


class AgentFeatures(nn.Module):
    """Raw observations of A agents to F features each, with zeros behind where an agent has fewer.

    `preprocess` has no parameters and is what a round goes through once; calling it goes on from
    there. Images stay what they are in between.

    Args:
        spec: The environment's.
        policies: Who shares an encoder.
        network: `auto`, or `module:factory` for a user's encoder of a group's observations.

    Attributes:
        keys: Of the columns that observations are.
        features: F.
        real: [A, F] bool, the features of each agent that are not there to fill it up.
        parts: How many tensors lie between the stages.
        learns: Whether there is anything to learn in it.
    """

    def __init__(self, spec: EnvironmentSpec, policies: Sequence[Members], network: str) -> None:
        super().__init__()
        self.keys = [
            ColumnKey(Role.OBSERVATION, group.name, path)
            for group in spec.groups
            for path in spaces.leaves(group.observation)
        ]
        self.observations = TeamObservations(spec, policies, network, told_apart=False)
        self._spec, self._network, self._policies = spec, network, tuple(policies)
        widths = torch.tensor(self.observations.widths)
        self.features = int(widths.max())
        self.real = torch.arange(self.features) < widths.unsqueeze(1)
        self.learns = self.observations.learns
        self.parts = self.observations.parts if self.learns else 1

    def for_critics(self) -> AgentFeatures:
        """Itself where nothing is learned in it; else another with parameters of its own."""
        if not self.learns:
            return self
        return AgentFeatures(self._spec, self._policies, self._network)

    def preprocess(self, columns: Mapping[ColumnKey, Tensor]) -> list[Tensor]:
        """Columns `[N, n, *shape]` of each group to parts `[N, ...]`."""
        parts = self.observations.preprocessed([columns[key] for key in self.keys])
        return parts if self.learns else [self._encode(parts)]

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts to [N, A, F]."""
        return self._encode(parts) if self.learns else parts[0]

    def encoders(self) -> list[nn.Module]:
        """Those of each policy."""
        return list(self.observations.encoders)

    def _encode(self, parts: Sequence[Tensor]) -> Tensor:
        return in_order(self.observations.encode(parts), self._policies)
