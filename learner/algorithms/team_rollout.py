"""A round of several agents as rows of single ones: agent a of slot b is column b A + a."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.signature import ColumnKey, Role
from learner.algorithms.rollout import LOG_PROB, RAW_ACTION, Rollout
from learner.algorithms.sequences import Past

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from common.specs import EnvironmentSpec
    from learner.algorithms.team_actor import TeamActor
    from learner.experience.on_policy import OnPolicyBatch
    from learner.networks.teams import TeamState

RewardSharing = Literal["none", "mean", "sum"]
"""What an agent learns from: its own rewards, or the mean or the sum of those of all agents."""


class _Ends(NamedTuple):
    """[T, B, A] bool each, but for `seen` [(T + 1) B + N, A]: entries in which an agent is there.

    An agent that a time limit cuts off is still there in the entry behind it. After a row in which
    it is `gone` a critic remembers nothing of it.
    """

    acting: NDArray[np.bool_]
    gone: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    seen: NDArray[np.bool_]


class TeamRollouts:
    """Makes rollouts of rounds.

    A row counts where its agent acted. An agent's own end ends its returns. Critics see zeros in
    the place of agents that are gone (Yu et al. 2022, https://arxiv.org/abs/2103.01955, section 5).

    Args:
        spec: The environment.
        actor: The policies that acted.
        state: Makes numbers of the environment's own state; None leaves it out.
        reward: What an agent learns from.
        device: Where rows go.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        actor: TeamActor,
        *,
        state: TeamState | None,
        reward: RewardSharing,
        device: torch.device,
    ) -> None:
        self._spec = spec
        self._actor = actor
        self._state = state
        self._reward = reward
        self._device = device

    @torch.no_grad()
    def of(self, batch: OnPolicyBatch) -> Rollout:
        """The round; its leaves are of steps: the actor's parts, and what critics see beside."""
        columns, agents = batch.columns, len(self._spec.agents)
        rows, slots = columns[ColumnKey(Role.VALID)].shape
        ends = self._ends(batch)
        shape = (rows, slots * agents)
        acted = torch.from_numpy(ends.acting.reshape(-1)).to(self._device)
        # Rows in which nobody acted hold whatever the policy said, and 0 times NaN is NaN.
        actions = torch.where(acted.unsqueeze(1), self._actions(columns), 0.0)
        log_probs = torch.where(acted, self._log_probs(columns), 0.0)
        masks = {
            each.masked: self._flat(columns[each.masked][:-1])
            for each in self._actor.groups
            if each.masked
        }
        found = self._actor.masks(masks, rows * slots)
        return Rollout(
            shape=shape,
            leaves=self._parts(batch, ends.seen),
            masks=None if found is None else found.flatten(0, 1),
            actions=actions,
            log_probs=log_probs,
            valid_rows=acted,
            rewards=self._rewards(columns).reshape(shape),
            terminated=ends.terminated.reshape(shape),
            truncated=ends.truncated.reshape(shape),
            valid=ends.acting.reshape(shape),
            final_rows=np.repeat(batch.final_rows, agents),
            final_slots=(batch.final_slots[:, None] * agents + np.arange(agents)).reshape(-1),
            keys=batch.keys,
            past=self._past(columns, ends),
        )

    def _past(self, columns: Mapping[ColumnKey, NDArray[Any]], ends: _Ends) -> Past | None:
        """What the agents of each slot remember: actors what their samplers say, critics nothing.

        A critic's own memory also begins anew where its agent was gone.
        """
        if self._actor.memory is None:
            return None
        first = columns[ColumnKey(Role.IS_FIRST)]
        reset = np.repeat(first, ends.acting.shape[2], axis=1)
        of_critic = reset.copy()
        of_critic[1:] |= ends.gone[:-1].reshape(len(reset) - 1, -1)
        states = self._actor.states(
            {
                key: torch.tensor(column, device=self._device)
                for key, column in columns.items()
                if key.role == Role.STATE
            }
        )
        resets = (torch.from_numpy(each).to(self._device) for each in (reset, of_critic))
        return Past(states, next(resets), Past(torch.zeros_like(states), next(resets)))

    def _ends(self, batch: OnPolicyBatch) -> _Ends:
        columns = batch.columns
        valid, first, over = (
            columns[ColumnKey(role)] for role in (Role.VALID, Role.IS_FIRST, Role.EPISODE_END)
        )
        alive = self._of_agents(columns, Role.ALIVE)
        terminated = self._of_agents(columns, Role.TERMINATED)
        truncated = self._of_agents(columns, Role.TRUNCATED) | over[..., None]
        going = alive[:-1] & ~terminated
        begins = np.concatenate((first[1:], np.zeros_like(first[:1])))
        seen = alive.copy()
        seen[1:] |= going & ~begins[..., None]
        finals = going[batch.final_rows, batch.final_slots]
        agents = alive.shape[2]
        return _Ends(
            acting=alive[:-1] & valid[..., None],
            gone=~going,
            terminated=terminated,
            truncated=truncated,
            seen=np.concatenate((seen.reshape(-1, agents), finals)),
        )

    def _parts(self, batch: OnPolicyBatch, seen: NDArray[np.bool_]) -> list[Tensor]:
        """Parts for actors and critics, `[(T + 1) B + N, ...]` each; see `CriticView`."""
        keys = self._actor.encoder.seen.keys
        parts = self._actor.parts({key: self._entries(batch, key) for key in keys})
        parts.append(torch.from_numpy(seen).to(self._device, torch.float32).unsqueeze(2))
        if self._state is not None:
            parts.append(self._state([self._entries(batch, key) for key in self._state.keys]))
        return parts

    def _actions(self, columns: Mapping[ColumnKey, NDArray[Any]]) -> Tensor:
        """[T B A, W]."""
        distribution, found = self._actor.distribution, []
        for number, (group, own) in enumerate(
            zip(self._spec.groups, distribution.each(), strict=True)
        ):
            key = ColumnKey(Role.ACTION, group.name)
            if own.records_raw:
                key = ColumnKey(Role.RECORD, group.name, RAW_ACTION)
            found.append(distribution.encode(number, self._flat(columns[key])))
        return torch.cat(found, 1).flatten(0, 1)

    def _log_probs(self, columns: Mapping[ColumnKey, NDArray[Any]]) -> Tensor:
        """[T B A]."""
        return self._flat(self._of_agents(columns, Role.RECORD, LOG_PROB)).flatten()

    def _rewards(self, columns: Mapping[ColumnKey, NDArray[Any]]) -> NDArray[np.float32]:
        """[T, B, A]."""
        rewards: NDArray[np.float32] = self._of_agents(columns, Role.REWARD)
        if self._reward == "none":
            return rewards
        team = rewards.sum(2, keepdims=True)
        team = team / rewards.shape[2] if self._reward == "mean" else team
        return np.broadcast_to(team, rewards.shape).astype(np.float32)

    def _entries(self, batch: OnPolicyBatch, key: ColumnKey) -> Tensor:
        """A column's entries and the final ones behind them, `[(T + 1) B + N, ...]`."""
        entries = self._flat(batch.columns[key])
        if len(batch.final_rows) == 0:
            return entries
        finals = torch.tensor(batch.final_columns[key], device=self._device)
        return torch.cat((entries, finals))

    def _flat(self, column: NDArray[Any]) -> Tensor:
        """[T, B, ...] to [T B, ...], a copy: the arrays are the store's own."""
        return torch.tensor(column.reshape(-1, *column.shape[2:]), device=self._device)

    def _of_agents(
        self, columns: Mapping[ColumnKey, NDArray[Any]], role: Role, key: str = ""
    ) -> NDArray[Any]:
        """The column of a role of all groups side by side: [T or T + 1, B, A]."""
        groups = [columns[ColumnKey(role, group.name, key)] for group in self._spec.groups]
        found: NDArray[Any] = groups[0] if len(groups) == 1 else np.concatenate(groups, 2)
        return found
