"""Small games of several agents whose best returns are known."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from sampler.environments.matrix_games import MatrixGame


class Together(MatrixGame):
    """Five steps that pay 1 where both agents choose the number they see, and nothing else does.

    Chance pays 5 / 9 an episode, the best there is 5.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "together"}
    max_cycles = 5
    choices = 3

    def seen(self) -> Any:
        """What both observe."""
        return self.state()

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None or not hasattr(self, "generator"):
            self.generator = np.random.default_rng(seed)
        self.steps = 0
        _, infos = super().reset()
        self.where = int(self.generator.integers(3))
        return self.each(self.seen()), infos

    def step(self, actions: Any) -> Any:
        reward = float(all(actions[agent] == self.where for agent in self.possible_agents))
        self.where = int(self.generator.integers(3))
        self.steps += 1
        over = self.steps == self.max_cycles
        self.agents = [] if over else self.agents
        seen = self.each(self.seen())
        return seen, self.each(reward), self.each(False), self.each(over), self.each({})


class Pictured(Together):
    """`Together` with pictures: the number is which third of 9 pixels is bright, on a noisy ground.

    Chance pays 5 / 9 an episode, the best there is 5.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "pictured"}

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(0, 255, (9, 9, 1), np.uint8)

    def seen(self) -> Any:
        picture = self.generator.integers(0, 100, (9, 9, 1), np.uint8)
        picture[:, 3 * self.where : 3 * self.where + 3] += 100
        return picture


class Recall(MatrixGame):
    """A number, shown in the first of three steps, pays an agent 1 that names it in the last.

    Without a memory 1 / 3 is the best there is.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "recall"}
    max_cycles = 3
    choices = 3

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None or not hasattr(self, "generator"):
            self.generator = np.random.default_rng(seed)
        self.steps, self.shown = 0, int(self.generator.integers(3))
        _, infos = super().reset()
        self.where = self.shown
        return self.each(self.state()), infos

    def step(self, actions: Any) -> Any:
        self.steps, self.where = self.steps + 1, 3
        over = self.steps == self.max_cycles
        rewards = {agent: float(over and act == self.shown) for agent, act in actions.items()}
        self.agents = [] if over else self.agents
        seen = self.each(self.state())
        return seen, rewards, self.each(over), self.each(False), self.each({})


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
