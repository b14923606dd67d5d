"""Whole episodes of several agents as a gradient step takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from common.signature import ColumnKey, Role
from learner.networks.normalisation import EPSILON, RunningMoments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from common.specs import EnvironmentSpec
    from learner.algorithms.team_policy import TeamEpsilonGreedy
    from learner.experience.episodes import Episodes
    from learner.networks.normalisation import BoundedNormaliser
    from learner.networks.teams import TeamState

    Columns: TypeAlias = Mapping[ColumnKey, NDArray[Any]]

TeamReward = Literal["mean", "sum"]
"""What the team's reward is of its agents' rewards."""


class TeamMinibatch(NamedTuple):
    """M episodes of at most L steps on the device; U is A, or 1 for a team.

    Attributes:
        leaves: `[(L + 1) M, n, *shape]`.
        mask: [L + 1, M, A, W] available actions, or what broadcasts to it; None for all.
        actions: [L, M, A] numbers from 0 on.
        acting: [L, M, A], 1 where an agent acts.
        going: [L, M, A], 1 where its value goes on behind the step.
        states: [L + 1, M, S], None where nothing looks at a state.
        rewards: [L, M, U].
        discounts: [L, M, U].
        weights: [L, M, U], 1 where there is something to learn.
        ends: [L, M, U] bool.
    """

    leaves: list[Tensor]
    mask: Tensor | None
    actions: Tensor
    acting: Tensor
    going: Tensor
    states: Tensor | None
    rewards: Tensor
    discounts: Tensor
    weights: Tensor
    ends: Tensor


class TeamMinibatches:
    """Makes minibatches of drawn episodes.

    Args:
        spec: The environment's.
        policy: What acted, and is trained.
        gamma: Discount of a step.
        team: What the team's reward is; None where each agent learns from its own.
        state: Makes the states; None where nothing looks at one.
        standardise: Takes off the mean of all rewards drawn so far and divides by their deviation.
        normaliser: What states go through, and takes them in; None leaves them as they are.

    Attributes:
        rewards: The moments of all rewards drawn so far.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        policy: TeamEpsilonGreedy,
        *,
        gamma: float,
        team: TeamReward | None,
        state: TeamState | None,
        standardise: bool,
        normaliser: BoundedNormaliser | None,
    ) -> None:
        self.rewards = RunningMoments(())
        self._spec = spec
        self._policy = policy
        self._gamma = gamma
        self._team = team
        self._state = state
        self._standardise = standardise
        self._normaliser = normaliser
        self._starts = np.array(
            [
                start
                for group, start in zip(spec.groups, policy.starts, strict=True)
                for _ in group.agents
            ]
        )
        self._observed = [
            ColumnKey(Role.OBSERVATION, tensor.group, tensor.key)
            for tensor in policy.inputs
            if tensor.role == Role.OBSERVATION
        ]

    def of(self, batch: Episodes, device: torch.device) -> TeamMinibatch:
        """The minibatch of M episodes; their rewards and states enter the moments."""
        columns, mask = batch.columns, batch.mask
        acting = self._of_agents(columns, Role.ALIVE)
        going = acting[:-1] & ~self._of_agents(columns, Role.TERMINATED)
        last = mask & ~np.concatenate([mask[1:], np.zeros_like(mask[:1])])
        if self._team is None:
            goes_on, weights = going, mask[..., None] & acting[:-1]
            ends = last[..., None] | ~acting[1:]
        else:
            goes_on, weights, ends = going.any(2, keepdims=True), mask[..., None], last[..., None]

        def moved(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

        def flat(key: ColumnKey) -> Tensor:
            return moved(columns[key]).flatten(0, 1)

        leading = (len(mask) + 1, mask.shape[1])
        actions = np.maximum(self._of_agents(columns, Role.ACTION) - self._starts, 0)
        return TeamMinibatch(
            leaves=[flat(key) for key in self._observed],
            mask=self._mask(flat, leading),
            actions=moved(actions),
            acting=moved(acting[:-1].astype(np.float32)),
            going=moved(going.astype(np.float32)),
            states=self._states(flat, mask),
            rewards=moved(self._rewards(columns, weights)),
            discounts=moved((self._gamma * goes_on).astype(np.float32)),
            weights=moved(weights.astype(np.float32)),
            ends=moved(ends),
        )

    def _rewards(self, columns: Columns, weights: NDArray[np.bool_]) -> NDArray[np.float32]:
        """[L, M, U]."""
        rewards = self._of_agents(columns, Role.REWARD)
        if self._team is not None:
            rewards = rewards.sum(2, keepdims=True)
            rewards = rewards / len(self._starts) if self._team == "mean" else rewards
        if self._standardise:
            self.rewards.update(rewards[weights])
            rewards = (rewards - self.rewards.mean) / np.sqrt(self.rewards.variance + EPSILON)
        return rewards.astype(np.float32, copy=False)

    @torch.no_grad()
    def _states(
        self, flat: Callable[[ColumnKey], Tensor], mask: NDArray[np.bool_]
    ) -> Tensor | None:
        """[L + 1, M, S], from columns and the steps that there were [L, M]."""
        if self._state is None:
            return None
        states: Tensor = self._state([flat(key) for key in self._state.keys])
        if self._normaliser is not None:
            counted = torch.from_numpy(mask.ravel()).to(states.device, non_blocking=True)
            self._normaliser.update(states[: mask.size], counted)
            states = self._normaliser(states)
        return states.reshape(len(mask) + 1, mask.shape[1], -1)

    def _mask(self, flat: Callable[[ColumnKey], Tensor], leading: tuple[int, int]) -> Tensor | None:
        given = [
            flat(ColumnKey(Role.ACTION_MASK, group.name))
            for group in self._spec.groups
            if group.action_mask
        ]
        mask = self._policy.mask(given)
        return mask.reshape(*leading, *mask.shape[1:]) if mask is not None and given else mask

    def _of_agents(self, columns: Columns, role: Role) -> NDArray[Any]:
        """The column of a role of all groups side by side: [L or L + 1, M, A]."""
        groups = [columns[ColumnKey(role, group.name)] for group in self._spec.groups]
        found: NDArray[Any] = groups[0] if len(groups) == 1 else np.concatenate(groups, 2)
        return found
