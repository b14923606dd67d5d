"""An environment of your own: any function or class that gives a `gymnasium.Env`.

    wiserl train ppo --env own_environment:Corridor --env-arg length=12

Observations and rewards are whatever Gymnasium has; nothing of WiseRL is needed.
"""

from typing import Any

import gymnasium
import numpy as np


class Corridor(gymnasium.Env):
    """Walks from one end of a corridor to the other; each step costs a little.

    The best return is 1 - 0.01 (length - 1).
    """

    def __init__(self, length: int = 8, patience: int = 100) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._length, self._patience = length, patience
        self._place = self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Back to the beginning."""
        super().reset(seed=seed, options=options)
        self._place = self._steps = 0
        return self._observed(), {}

    def step(self, action: int):
        """1 goes on, 0 goes back. The end is a success; losing patience is a truncation."""
        self._place = max(0, self._place + (1 if action == 1 else -1))
        self._steps += 1
        arrived = self._place == self._length
        info = {"is_success": arrived} if arrived or self._steps == self._patience else {}
        reward = 1.0 if arrived else -0.01
        return self._observed(), reward, arrived, self._steps == self._patience, info

    def _observed(self):
        return np.array([self._place / self._length], np.float32)
