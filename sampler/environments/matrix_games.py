"""Cooperative games of two agents with known values: what a team's value must and cannot be.

    wiserl train qmix --env sampler.environments.matrix_games:TwoStep

Every sampler has them, without a package more. Agents observe the whole state, which is one-hot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

TWO_STEP = np.array([[0.0, 1.0], [1.0, 8.0]])
"""What the second step of `TwoStep` pays in state 2B; in 2A it pays 7."""

NON_MONOTONIC = np.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])
"""What `NonMonotonic` pays: no monotonic value has its greedy action at the 8."""


class MatrixGame:
    """PettingZoo's parallel API, for two agents that see everything.

    Attributes:
        states: Of the game.
        choices: Of each agent.
        max_cycles: Steps of an episode at most.
        where: The state.
    """

    metadata: ClassVar[dict[str, Any]] = {}
    render_mode = None
    states: ClassVar[int] = 4
    choices: ClassVar[int] = 2
    max_cycles: ClassVar[int] = 1

    def __init__(self) -> None:
        self.possible_agents = ["agent_0", "agent_1"]
        self.agents: list[str] = []
        self.state_space = spaces.Box(0, 1, (self.states,), np.float32)
        self.where = 0

    def observation_space(self, agent: str) -> spaces.Box:
        """The state's."""
        del agent
        return self.state_space

    def action_space(self, agent: str) -> spaces.Discrete:
        """One of `choices`."""
        del agent
        return spaces.Discrete(self.choices)

    def state(self) -> NDArray[np.float32]:
        """One-hot, [states]."""
        found = np.zeros(self.states, np.float32)
        found[self.where] = 1.0
        return found

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - the API's
        """Begins in state 0."""
        del seed, options
        self.agents, self.where = list(self.possible_agents), 0
        return self.each(self.state()), self.each({})

    def each(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - anything
        """The same for both."""
        return dict.fromkeys(self.possible_agents, value)

    def told(self, reward: float, *, over: bool) -> Any:  # noqa: ANN401 - the API's
        """What a step answers that pays both alike."""
        self.agents = [] if over else self.agents
        seen = self.each(self.state())
        return seen, self.each(reward), self.each(over), self.each(False), self.each({})

    def step(self, actions: Mapping[str, int]) -> Any:  # noqa: ANN401 - the API's
        """What a game is."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


class TwoStep(MatrixGame):
    """The two-step game of Rashid et al. 2018 (https://arxiv.org/abs/1803.11485), section 5.

    The first action of agent_0 chooses between 2A, where all pays 7, and 2B, which pays `TWO_STEP`.
    A sum of values, as VDN has it, takes the safe 7; QMIX takes the 8. States are 1, 2A, 2B and the
    end.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "two_step"}
    max_cycles = 2

    def step(self, actions: Mapping[str, int]) -> Any:  # noqa: ANN401 - the API's
        """Goes to 2A or 2B, or pays."""
        first, second = (int(actions[agent]) for agent in self.possible_agents)
        if self.where == 0:
            self.where = 1 + first
            return self.told(0.0, over=False)
        reward = 7.0 if self.where == 1 else float(TWO_STEP[first, second])
        self.where = 3
        return self.told(reward, over=True)


class NonMonotonic(MatrixGame):
    """One step that pays `NON_MONOTONIC`; VDN and QMIX must miss its best, MAPPO need not."""

    metadata: ClassVar[dict[str, Any]] = {"name": "non_monotonic"}
    choices = 3

    def step(self, actions: Mapping[str, int]) -> Any:  # noqa: ANN401 - the API's
        """Pays."""
        first, second = (int(actions[agent]) for agent in self.possible_agents)
        self.where = 3
        return self.told(float(NON_MONOTONIC[first, second]), over=True)
