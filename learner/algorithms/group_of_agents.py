"""Agents of one group among all that act in one graph, and the columns of what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from common.signature import ColumnKey, Role
from learner.networks.teams import padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.specs import AgentGroup, EnvironmentSpec


class GroupOfAgents(NamedTuple):
    """n agents of the same spaces.

    Attributes:
        group: The environment's.
        places: Where they stand among all agents.
        masked: The column of their action masks; None where there are none.
        acted: The column of their actions.
    """

    group: AgentGroup
    places: slice
    masked: ColumnKey | None
    acted: ColumnKey


def group_of_agents(
    spec: EnvironmentSpec, group: AgentGroup, *, mask_width: int | None
) -> GroupOfAgents:
    """One of the environment's groups, whose actions take a mask of so many entries, or of none."""
    masked = group.action_mask and mask_width is not None
    return GroupOfAgents(
        group=group,
        places=spec.places()[group.name],
        masked=ColumnKey(Role.ACTION_MASK, group.name) if masked else None,
        acted=ColumnKey(Role.ACTION, group.name),
    )


def side_by_side(of_groups: Sequence[Tensor], width: int) -> Tensor:
    """[N, A, width] of what groups have, [N, n, ...], with zeros behind."""
    found = [padded(one, width) for one in of_groups]
    return found[0] if len(found) == 1 else torch.cat(found, 1)
