"""Small cooperative games with known values, as PettingZoo environments."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

TWO_STEP = np.array([[0.0, 1.0], [1.0, 8.0]])
"""State 2B of the two-step game of Rashid et al. 2018, section 5; in 2A everything pays 7."""

NON_MONOTONIC = np.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])
"""No monotonic value has its greedy action at the 8."""


class TwoStep(ParallelEnv):
    """agent_0's first action chooses between 2A, where all pays 7, and 2B; both get the payoff.

    The state, which is all that is observed, is one-hot: 1, 2A, 2B and the end.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "two_step"}
    max_cycles = 2

    def __init__(self) -> None:
        self.possible_agents = ["agent_0", "agent_1"]
        self.agents: list[str] = []
        self.state_space = spaces.Box(0, 1, (4,), np.float32)
        self.where = 0

    def observation_space(self, agent: str) -> Any:
        return self.state_space

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def state(self) -> Any:
        return np.eye(4, dtype=np.float32)[self.where]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.where = list(self.possible_agents), 0
        return self._each(self.state()), self._each({})

    def step(self, actions: Any) -> Any:
        first, second = (actions[agent] for agent in self.possible_agents)
        reward = 0.0
        if self.where == 0:
            self.where = 1 + first
        else:
            reward = 7.0 if self.where == 1 else float(TWO_STEP[first, second])
            self.where = 3
        over = self.where == 3
        self.agents = [] if over else self.agents
        seen = self._each(self.state())
        return seen, self._each(reward), self._each(over), self._each(False), self._each({})

    def _each(self, value: Any) -> dict[str, Any]:
        return dict.fromkeys(self.possible_agents, value)


class NonMonotonic(TwoStep):
    """One step, three actions each."""

    metadata: ClassVar[dict[str, Any]] = {"name": "non_monotonic"}
    max_cycles = 1

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def step(self, actions: Any) -> Any:
        first, second = (actions[agent] for agent in self.possible_agents)
        self.where, self.agents = 3, []
        reward = float(NON_MONOTONIC[first, second])
        seen = self._each(self.state())
        return seen, self._each(reward), self._each(True), self._each(False), self._each({})


class Together(TwoStep):
    """Five steps that pay 1 where both agents choose the number they see, and nothing else does.

    Chance pays 5 / 9 an episode, the best there is 5.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "together"}
    max_cycles = 5

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None or not hasattr(self, "generator"):
            self.generator = np.random.default_rng(seed)
        self.steps = 0
        _, infos = super().reset()
        self.where = int(self.generator.integers(3))
        return self._each(self.state()), infos

    def step(self, actions: Any) -> Any:
        reward = float(all(actions[agent] == self.where for agent in self.possible_agents))
        self.where = int(self.generator.integers(3))
        self.steps += 1
        over = self.steps == self.max_cycles
        self.agents = [] if over else self.agents
        seen = self._each(self.state())
        return seen, self._each(reward), self._each(False), self._each(over), self._each({})


class Recall(TwoStep):
    """A number, shown in the first of three steps, pays an agent 1 that names it in the last.

    Without a memory 1 / 3 is the best there is.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "recall"}
    max_cycles = 3

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None or not hasattr(self, "generator"):
            self.generator = np.random.default_rng(seed)
        self.steps, self.shown = 0, int(self.generator.integers(3))
        _, infos = super().reset()
        self.where = self.shown
        return self._each(self.state()), infos

    def step(self, actions: Any) -> Any:
        self.steps, self.where = self.steps + 1, 3
        over = self.steps == self.max_cycles
        rewards = {agent: float(over and act == self.shown) for agent, act in actions.items()}
        self.agents = [] if over else self.agents
        seen = self._each(self.state())
        return seen, rewards, self._each(over), self._each(False), self._each({})


class Race(Together):
    """Whoever names the number that both see takes 1 from the other: chance is worth 0 to both."""

    metadata: ClassVar[dict[str, Any]] = {"name": "race"}

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = ["adversary_0", "agent_0"]

    def step(self, actions: Any) -> Any:
        first, second = (float(actions[agent] == self.where) for agent in self.possible_agents)
        seen, _, *rest = super().step(dict.fromkeys(("agent_0", "adversary_0"), 0))
        return seen, {"adversary_0": first - second, "agent_0": second - first}, *rest
