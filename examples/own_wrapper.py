"""A wrapper of your own: any function from an environment to an environment.

    wiserl train ppo --env CartPole-v1 --wrapper own_wrapper:WithoutVelocities
    wiserl train ppo --env CartPole-v1 --wrapper own_wrapper:repeated_twice

It is put around every copy of the environment, in training and in evaluation (`--eval-wrapper`
names others for that). Gymnasium's own are named the same way:
`--wrapper gymnasium.wrappers:ClipAction`.
"""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np


class WithoutVelocities(gymnasium.ObservationWrapper):
    """Shows the position and the angle of CartPole, but not how fast they change."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        low, high = env.observation_space.low[[0, 2]], env.observation_space.high[[0, 2]]
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation):
        """[4] to [2]."""
        return observation[[0, 2]]


class Repeated(gymnasium.Wrapper):
    """Takes each action several times and adds up the rewards."""

    def __init__(self, env: gymnasium.Env, times: int) -> None:
        super().__init__(env)
        self._times = times

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """As many steps as are left of the episode, at most."""
        total = 0.0
        for _ in range(self._times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


def repeated_twice(env: gymnasium.Env) -> gymnasium.Env:
    """A wrapper with arguments is a function of one's own."""
    return Repeated(env, times=2)
