"""What critics with a memory of their own remember from one round to the next."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from learner.algorithms.rollout import in_chunks
from learner.algorithms.sequences import Past
from learner.experience.fragments import Carried, in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from learner.algorithms.rollout import Rollout
    from learner.algorithms.team_networks import RememberingCritic


class CriticRecall:
    """Begins every fragment with the state that the slot's fragment before it ended with.

    No critic travels, so no sampler has its states; they are kept here, for each slot. A state is
    that of the parameters which saw its rows first, as an actor's is. A fragment that follows on
    none here, because rows were lost or the learner is another process, begins with zeros.

    Args:
        critic: The networks.
        agents: A.
        steps_at_once: How many go through what is in front of the memory together.
    """

    def __init__(self, critic: RememberingCritic, agents: int, *, steps_at_once: int) -> None:
        self._critic = critic
        self._agents = agents
        self._steps_at_once = steps_at_once
        self._carried: Carried[Tensor] = Carried()

    @torch.no_grad()
    def recalled(self, data: Rollout) -> Rollout:
        """The round with the states that its fragments begin with; keeps those they end with."""
        past = cast("Past", data.past)
        of_critic = cast("Past", past.of_critic)
        rows, columns = data.shape
        device = of_critic.initial.device
        steps = [leaf[: data.rows // self._agents] for leaf in data.leaves]
        pieces = in_chunks(steps, self._steps_at_once)
        entered = torch.cat([self._critic.entered(piece) for piece in pieces])
        entered = entered.view(rows, columns, -1)
        gone = torch.from_numpy(~data.valid[-1] | data.terminated[-1]).to(device)
        initial = of_critic.initial.clone()
        for slots in in_turns(data.keys, range(len(data.keys))):
            places = self._places(slots, device)
            self._recall(data, slots, initial)
            begun = Past(initial, of_critic.reset).of(places)
            own = entered.index_select(1, places).flatten(0, 1)
            ended = self._critic.states(own, begun)[-1]
            ended.masked_fill_(gone[places].unsqueeze(1), 0.0)
            by_slot = ended.reshape(len(slots), self._agents, -1)
            for slot, state in zip(slots, by_slot, strict=True):
                self._carried.keep(data.keys[slot], state.clone())
        recalled = past._replace(of_critic=of_critic._replace(initial=initial))
        return dataclasses.replace(data, past=recalled)

    def _recall(self, data: Rollout, slots: Sequence[int], initial: Tensor) -> None:
        for slot in slots:
            state = self._carried.before(data.keys[slot], rows=data.shape[0])
            if state is not None:
                initial[slot * self._agents : (slot + 1) * self._agents] = state

    def _places(self, slots: Sequence[int], device: torch.device) -> Tensor:
        """The columns of the agents of these slots."""
        first = np.array(slots)[:, None] * self._agents
        return torch.from_numpy((first + np.arange(self._agents)).reshape(-1)).to(device)
