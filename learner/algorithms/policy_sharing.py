"""Which agents of an environment share a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

from common.specs import role_of

if TYPE_CHECKING:
    from torch import Tensor

    from common.specs import EnvironmentSpec

PolicySharing = Literal["per_agent", "per_role", "shared"]
"""A policy of its own for each agent; one for the agents of a role, which are those of one group
whose names differ in their number alone; one for all."""


def policies_of(spec: EnvironmentSpec, sharing: PolicySharing) -> tuple[int, ...]:
    """The number of each agent's policy, from 0 on, in the order of the spec's agents."""
    owners: list[tuple[str, ...]] = []
    for group in spec.groups:
        for agent in group.agents:
            match sharing:
                case "per_agent":
                    owners.append((agent,))
                case "per_role":
                    owners.append((group.name, role_of(agent)))
                case "shared":
                    owners.append(())
    numbers = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    return tuple(numbers[owner] for owner in owners)


def members_of(spec: EnvironmentSpec, sharing: PolicySharing) -> tuple[tuple[int, ...], ...]:
    """The numbers of the agents of each policy, in the order of their first agents."""
    members: dict[int, list[int]] = {}
    for agent, policy in enumerate(policies_of(spec, sharing)):
        members.setdefault(policy, []).append(agent)
    return tuple(map(tuple, members.values()))


def places_within(policies: tuple[int, ...]) -> tuple[int, ...]:
    """Which of the agents of its policy each agent is, from 0 on."""
    return tuple(policies[:place].count(policy) for place, policy in enumerate(policies))


def shared_networks(
    spec: EnvironmentSpec, sharing: PolicySharing
) -> tuple[int, Tensor | None, Tensor | None]:
    """How many networks there are, and how those who share one are told apart.

    Returns:
        The number of networks; [A, I] float32, a one-hot vector for each agent among those of its
        network; [A] int64, the network of each. The last two are None where each has its own: such
        agents need neither to be told apart nor networks to be chosen.
    """
    policies = policies_of(spec, sharing)
    places = places_within(policies)
    if max(places) == 0:
        return len(policies), None, None
    ids = F.one_hot(torch.tensor(places)).to(torch.float32)
    return max(policies) + 1, ids, torch.tensor(policies)
