"""Tasks that a policy without a memory cannot solve.

    wiserl train ppo --env examples.memory_tasks:recall --config examples/recall.yaml

An environment of one's own, `module:factory`: the function returns a `gymnasium.Env`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TransformObservation
from numpy.typing import NDArray

Observation = NDArray[np.float32]


class Recall(gymnasium.Env[Observation, int]):
    """A cue, +1 or -1, is shown once; `delay` steps later it must be named.

    The observation is `(cue, whether it is to be named)`. Naming it is worth 1, the other action
    -1, and whatever is done before is worth nothing: without a memory the mean return is 0 at best.

    Args:
        delay: Steps between the cue and the question.
    """

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._cue = 0
        self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Shows a new cue."""
        super().reset(seed=seed, options=options)
        self._cue, self._step = int(self.np_random.integers(2)), 0
        return np.array([2 * self._cue - 1, 0], np.float32), {}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Waits, or takes the answer."""
        self._step += 1
        if self._step <= self._delay:
            asks = self._step == self._delay
            return np.array([0, asks], np.float32), 0.0, False, False, {}
        reward = 1.0 if action == self._cue else -1.0
        return np.zeros(2, np.float32), reward, True, False, {}


def recall(delay: int = 6) -> gymnasium.Env[Any, Any]:
    """See `Recall`."""
    return Recall(delay)


def cartpole_positions() -> gymnasium.Env[Any, Any]:
    """CartPole-v1 that shows where cart and pole are, but not how fast they move."""
    environment = gymnasium.make("CartPole-v1")
    bound = environment.observation_space.high[[0, 2]]
    space = gymnasium.spaces.Box(-bound, bound)
    return TransformObservation(environment, lambda observation: observation[[0, 2]], space)
