"""Games whose agents take turns, in PettingZoo's AEC API, small enough to know what is best."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv
from pettingzoo.utils.conversions import turn_based_aec_to_parallel

PILE = 5


class TurnGame(AECEnv):
    """What both games share."""

    metadata: ClassVar[dict[str, Any]] = {"name": "turns", "is_parallelizable": False}
    render_mode = None
    possible_agents: list[str]

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def _after(self, agent: str) -> str:
        return self.agents[(self.agents.index(agent) + 1) % len(self.agents)]


class Nim(TurnGame):
    """Two take one or two from a pile of five in turn; who takes the last wins 1 from the other.

    Who leaves a multiple of three wins, so the first does, by taking two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = ["player_0", "player_1"]
        self.max_cycles = PILE

    def observation_space(self, agent: str) -> Any:
        pile, mask = ((PILE + 1,), np.float32), ((2,), np.int8)
        return spaces.Dict(
            {"observation": spaces.Box(0, 1, *pile), "action_mask": spaces.Box(0, 1, *mask)}
        )

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        super().reset(seed, options)
        self.pile = PILE

    def observe(self, agent: str) -> Any:
        return seen(self.pile)

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        self.pile -= int(action) + 1
        assert self.pile >= 0
        self._clear_rewards()
        self.agent_selection = self._after(agent)
        if not self.pile:
            self.rewards = {agent: 1.0, self.agent_selection: -1.0}
            self.terminations = dict.fromkeys(self.agents, True)
        self._accumulate_rewards()


def converted() -> Any:
    """Nim as PettingZoo converts it, without masks for who waits."""
    return turn_based_aec_to_parallel(Nim())


def seen(pile: int) -> dict[str, Any]:
    """What a player of Nim observes; nothing is left to take at an empty pile."""
    mask = np.array([pile >= 1, pile >= 2], np.int8)
    return {"observation": np.eye(PILE + 1, dtype=np.float32)[pile], "action_mask": mask}


class Knockout(TurnGame):
    """Three in turn; p_1 ends at once when p_0 acts for the second time, all after four rounds.

    A turn pays 1 to whoever acts and 10 to who is next. The last of three actions is free from the
    second turn of an agent on.
    """

    def __init__(self, continuous: bool = False) -> None:  # noqa: FBT001, FBT002
        super().__init__()
        self.possible_agents = ["p_0", "p_1", "p_2"]
        self.continuous = continuous

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(0, 99, (2,), np.float32)

    def action_space(self, agent: str) -> Any:
        return spaces.Box(-1, 1, (1,), np.float32) if self.continuous else spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        super().reset(seed, options)
        self.turns = dict.fromkeys(self.agents, 0)
        self._tell()

    def observe(self, agent: str) -> Any:
        return np.array([sum(self.turns.values()), self.turns[agent]], np.float32)

    def _tell(self) -> None:
        for agent in self.agents:
            mask = np.array([1, 1, self.turns[agent] > 0], np.int8)
            self.infos[agent] = {"action_mask": mask}

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        self.turns[agent] += 1
        self._clear_rewards()
        following = self._after(agent)
        self.rewards[agent] += 1.0
        self.rewards[following] += 10.0
        if agent == "p_0" and self.turns[agent] == 2:
            self.terminations["p_1"] = True
        if agent == "p_2" and self.turns[agent] == 4:
            self.terminations = dict.fromkeys(self.agents, True)
        self.agent_selection = self._after(following) if self.terminations[following] else following
        self._tell()
        self._accumulate_rewards()
        self._deads_step_first()
