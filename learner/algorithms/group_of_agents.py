"""What lies between the spaces of a group of agents and networks over all agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common import spaces
from common.errors import UnsupportedSpaceError
from common.signature import ColumnKey, Role
from learner.networks.agent_actions import agent_actions
from learner.networks.encoders import ObservationEncoder, ObservationPreprocessor
from learner.networks.images import SMALLEST_NATURE_IMAGE, is_picture
from learner.networks.teams import has_pictures, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.specs import AgentGroup, EnvironmentSpec


class GroupOfAgents(nn.Module):
    """What lies between the spaces of n agents and the networks of all.

    Args:
        spec: The environment.
        group: Of the agents.
        name: The algorithm's, for errors.

    Attributes:
        places: Where they stand among all agents.
        observed: The columns of their observations.
        masked: The column of their action masks; None where there are none.
        acted: The column of their actions.
        actions: What networks have to do with their actions.
        features: F, numbers of an observation.

    Raises:
        UnsupportedSpaceError: They observe images of many pixels, or have actions of no supported
            space.
    """

    def __init__(self, spec: EnvironmentSpec, group: AgentGroup, name: str) -> None:
        super().__init__()
        leaves = spaces.leaves(group.observation)
        if has_pictures(group.observation):
            raise UnsupportedSpaceError(
                f"{name} has no convolutions, and {group.agents[0]} observes images of bytes from "
                f"{SMALLEST_NATURE_IMAGE} pixels on; make them smaller with a wrapper, or take "
                "mappo or ippo"
            )
        self.group = group
        self.places = spec.places()[group.name]
        self.actions = agent_actions(group.action, name)
        self.observed = [ColumnKey(Role.OBSERVATION, group.name, key) for key in leaves]
        has_mask = group.action_mask and self.actions.mask_width is not None
        self.masked = ColumnKey(Role.ACTION_MASK, group.name) if has_mask else None
        self.acted = ColumnKey(Role.ACTION, group.name)
        self.features = ObservationEncoder(list(leaves.values()), is_picture).features
        self.preprocess = ObservationPreprocessor(
            list(leaves.values()), normalise=False, convolved=is_picture
        )

    def forward(self, leaves: Sequence[Tensor]) -> Tensor:
        """Observations `[N, n, *shape]` of each leaf to [N, n, F]."""
        agents = leaves[0].shape[1]
        parts: list[Tensor] = self.preprocess([leaf.flatten(0, 1) for leaf in leaves])
        return parts[0].reshape(-1, agents, self.features)


def side_by_side(of_groups: Sequence[Tensor], width: int) -> Tensor:
    """[N, A, width] of what groups have, [N, n, ...], with zeros behind."""
    found = [padded(one, width) for one in of_groups]
    return found[0] if len(found) == 1 else torch.cat(found, 1)
