"""CartPole that stands still while a file is there: a fault that a test brings about and mends."""

import os
import time
from pathlib import Path

import gymnasium as gym

VARIABLE = "PAUSING_ENV_FILE"


class Pausing(gym.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        self._file = Path(os.environ[VARIABLE])

    def step(self, action):
        while self._file.exists():
            time.sleep(0.05)
        return super().step(action)


def make():
    return Pausing(gym.make("CartPole-v1"))
