"""An environment that learns within seconds: press the button under the light that is on."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

ROUNDS = 20


class Lights(gym.Env[np.ndarray, np.int64]):
    """Shows which of some lights is on; the right button is worth 1."""

    def __init__(self, lights: int = 4) -> None:
        self.observation_space = gym.spaces.Box(0.0, 1.0, (lights,), np.float32)
        self.action_space = gym.spaces.Discrete(lights)
        self._lights = lights
        self._on = self._rounds = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode of `ROUNDS` rounds."""
        super().reset(seed=seed, options=options)
        self._rounds = 0
        return self._next(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Presses a button."""
        reward = float(action == self._on)
        self._rounds += 1
        return self._next(), reward, self._rounds == ROUNDS, False, {}

    def _next(self) -> np.ndarray:
        self._on = int(self.np_random.integers(self._lights))
        return np.eye(self._lights, dtype=np.float32)[self._on]


def make(**arguments: Any) -> Lights:  # noqa: ANN401 - those of the command line
    """What `--env lights:make` calls."""
    return Lights(**arguments)
