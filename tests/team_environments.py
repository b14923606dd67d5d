"""Environments with several agents, for the tests of the pool: predictable and odd ones."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Expedition(ParallelEnv):
    """Two walkers and a scout; walker_1 ends after 2 steps, the others after `length`.

    A walker observes (seed or episode, step, its last action), the scout (step) in a Dict. The
    reward of step s is 1 + s for walker_0, 10 (1 + s) for walker_1 and 100 for the scout. The task
    ends walker_1 and cuts off the others. Walkers may only take action step % 3.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "expedition"}

    def __init__(self, length: int = 4, masked: bool = True) -> None:  # noqa: FBT001, FBT002
        self.possible_agents = ["walker_0", "scout", "walker_1"]
        self.agents: list[str] = []
        self.max_cycles = length
        self.masked = masked
        self.state_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.episode, self.steps = -1, 0
        self.received: list[dict[str, Any]] = []

    def observation_space(self, agent: str) -> Any:
        place = spaces.Box(-1, 1e9, (3,), np.float32)
        return spaces.Dict({"step": spaces.Discrete(50)}) if agent == "scout" else place

    def action_space(self, agent: str) -> Any:
        return spaces.Box(-1, 1, (2,), np.float32) if agent == "scout" else spaces.Discrete(3)

    def state(self) -> Any:
        return np.array([self.episode, self.steps], np.float64)

    def _see(self, agents: Any, actions: Any) -> Any:
        seen, infos = {}, {}
        for agent in agents:
            if agent == "scout":
                seen[agent] = {"step": self.steps}
                infos[agent] = {}
                continue
            last = actions.get(agent, -1)
            seen[agent] = np.array([self.episode, self.steps, last], np.float32)
            mask = np.arange(3) == self.steps % 3
            infos[agent] = {"action_mask": mask.astype(np.int8)} if self.masked else {}
        return seen, infos

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.episode = seed % 1000 if seed is not None else self.episode + 1
        self.steps, self.agents = 0, list(self.possible_agents)
        return self._see(self.agents, {})

    def step(self, actions: Any) -> Any:
        assert set(actions) == set(self.agents), actions
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action), (agent, action)
        self.received.append(actions)
        acting = self.agents
        worth = {"walker_0": 1 + self.steps, "walker_1": 10 * (1 + self.steps), "scout": 100}
        self.steps += 1
        over = self.steps >= self.max_cycles
        terminated = {agent: agent == "walker_1" and self.steps == 2 for agent in acting}
        truncated = {agent: over and not terminated[agent] for agent in acting}
        seen, infos = self._see(acting, actions)
        if over:
            infos["scout"] = {"found": self.steps, "name": "x"}
        self.agents = [a for a in acting if not terminated[a] and not truncated[a]]
        return seen, {agent: float(worth[agent]) for agent in acting}, terminated, truncated, infos


class Foraging(gymnasium.Env):
    """Tuple spaces and a list of rewards, as level-based foraging has them."""

    def __init__(self, scalar_reward: bool = False) -> None:  # noqa: FBT001, FBT002
        self.observation_space = spaces.Tuple([spaces.Box(0, 99, (2,), np.float32)] * 2)
        self.action_space = spaces.Tuple([spaces.Discrete(4), spaces.Discrete(4)])
        self._max_episode_steps = 3
        self.scalar_reward = scalar_reward

    def _see(self) -> Any:
        return tuple(np.array([i, self.steps], np.float32) for i in range(2))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        over = self.steps == 3
        reward = 1.0 if self.scalar_reward else [0.5, float(self.steps)]
        return self._see(), reward, over, False, {"level": 2.0}


class TupleObserver(gymnasium.Env):
    """Observes a Tuple but takes one action: no agents."""

    def __init__(self) -> None:
        self.observation_space = spaces.Tuple([spaces.Discrete(2)] * 2)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return (0, 0), {}


class Silent(Expedition):
    """Forgets to observe for an agent that acts."""

    def _see(self, agents: Any, actions: Any) -> Any:
        seen, infos = super()._see(agents, actions)
        if self.steps == 1:
            seen.pop("scout", None)
        return seen, infos


def spread_in_turns(**arguments: Any) -> Any:
    """The AEC form of an environment whose agents may act at once."""
    from mpe2 import simple_spread_v3

    return simple_spread_v3.env(**arguments)
