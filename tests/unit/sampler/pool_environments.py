"""Environments for the tests of the pool: predictable ones, odd ones and broken ones."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv


class Counting(gymnasium.Env):
    """Observes (number of the episode, number of the step, last action).

    Episode e lasts `length + e % 2` steps and ends by the task's end where e is even, else by being
    cut off. The reward of step s of episode e is 0.1 + e + s.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, length: int = 3, dtype: str = "float32") -> None:
        self.observation_space = spaces.Box(-1, 1e6, (3,), np.dtype(dtype).type)
        self.action_space = spaces.Discrete(4)
        self.length = length
        self.episode, self.steps, self.seed = -1, 0, None

    def _observation(self, action: int) -> Any:
        values = [self.episode, self.steps, action]
        return np.array(values, self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.seed, self.episode = seed, -1
        self.episode, self.steps = self.episode + 1, 0
        return self._observation(-1), {}

    def step(self, action: int) -> Any:
        reward = 0.1 + self.episode + self.steps
        self.steps += 1
        over = self.steps >= self.length + self.episode % 2
        even = self.episode % 2 == 0
        info = {"is_success": even, "steps": self.steps, "text": "x"} if over else {}
        return self._observation(action), reward, over and even, over and not even, info


class Mortal(Counting):
    """Five steps that pay 1; the second one costs a life."""

    def __init__(self) -> None:
        super().__init__(length=5)

    def step(self, action):
        observation, _, _terminated, _, _ = super().step(action)
        info = {"life_lost": True} if observation[1] == 2 else {}
        return observation, 1.0, observation[1] == 5, False, info


class Seeded(gymnasium.Env):
    """Random walks from the environment's own generator; ends at random."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=2)
        return self.place.astype(np.float32), {}

    def step(self, action: int) -> Any:
        self.place += self.np_random.normal(size=2) + action
        ended, cut = self.np_random.random(2) < (0.1, 0.05)
        observation = self.place.astype(np.float32)
        info = {"place": self.place[0]} if ended or self.place[0] > 3 else {}
        return observation, float(self.place.sum()), bool(ended), bool(cut), info


class Nested(gymnasium.Env):
    """A nested Dict observation of every kind of leaf; float64 where that is what is given."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (2, 2, 1), np.uint8),
                "body": spaces.Dict(
                    {
                        "speed": spaces.Box(-np.inf, np.inf, (2,), np.float64),
                        "gear": spaces.Discrete(5, start=1),
                    }
                ),
                "flags": spaces.MultiBinary([2, 2]),
                "grid": spaces.MultiDiscrete([[3, 4], [5, 6]]),
            }
        )
        self.action_space = spaces.MultiDiscrete([[2, 3], [2, 2]])
        self.actions: list[Any] = []
        self.steps = 0

    def _observation(self) -> Any:
        s = self.steps
        return {
            "image": np.full((2, 2, 1), s, np.uint8),
            "body": {"speed": np.array([s + 0.5, -s]), "gear": 1 + s % 5},
            "flags": np.array([[1, 0], [0, s % 2]], np.int8),
            "grid": np.array([[s % 3, 1], [2, 3]]),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        return self._observation(), 1, False, self.steps == 4, {}


class Masked(gymnasium.Env):
    """In step s only action s % 3 is available; says so in `info` or in its observation."""

    def __init__(self, where: str = "info") -> None:
        place = spaces.Box(0, 100, (1,), np.float32)
        self.where = where
        self.observation_space = (
            place
            if where == "info"
            else spaces.Dict({"place": place, "action_mask": spaces.MultiBinary(3)})
        )
        self.action_space = spaces.Discrete(3)
        self.steps = 0

    def _result(self) -> Any:
        mask = np.zeros(3, np.int8)
        mask[self.steps % 3] = 1
        place = np.array([self.steps], np.float32)
        if self.where == "info":
            return place, {"action_mask": mask}
        return {"place": place, "action_mask": mask}, {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return self._result()

    def step(self, action: int) -> Any:
        assert action == self.steps % 3
        self.steps += 1
        observation, info = self._result()
        if self.where == "missing":
            info = {}
        return observation, 1.0, self.steps == 5, False, info


class Boxed(gymnasium.Env):
    """Continuous actions in float64 of shape [1, 2], which it keeps and writes into."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(-1, 1, (1, 2), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        observation = action[0] * 2
        action[...] = 77
        return observation, np.float64(0.25), False, False, {}


class Broken(gymnasium.Env):
    """Breaks in its `at`-th step; only once where `flag` names a file to remember it in."""

    def __init__(self, how: str, at: int = 5, flag: str = "") -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(4)
        self.how, self.at, self.flag = how, at, flag
        self.steps = 0
        if how == "build":
            raise RuntimeError("the wheel came off while building")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(3, np.float32), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        observation = np.full(3, self.steps, np.float32)
        if self.steps == self.at and not (self.flag and Path(self.flag).exists()):
            if self.flag:
                Path(self.flag).touch()
            observation = self._break(observation)
        reward = np.nan if self.how == "nan" else 1.0
        return observation, reward, False, self.steps % 7 == 0, {}

    def _break(self, observation: Any) -> Any:  # noqa: C901 - one case for each way
        match self.how:
            case "raise":
                raise RuntimeError("the wheel came off")
            case "exit":
                os._exit(3)
            case "sys.exit":
                sys.exit(4)
            case "segfault":
                ctypes.string_at(0)
            case "loop":
                while True:
                    pass
            case "sleep":
                time.sleep(3600)
            case "shape":
                return np.zeros(1, np.float32)
            case "flood":
                for _ in range(20_000):
                    print("x" * 200)  # noqa: T201
                os.write(1, b"y" * 1_000_000)
        return observation


class Gated(Counting):
    """Its first step waits until the file `gate` is there."""

    def __init__(self, gate: str) -> None:
        super().__init__()
        self.gate = Path(gate)

    def step(self, action: int) -> Any:
        while not self.gate.exists():
            time.sleep(0.001)
        return super().step(action)


class TupleObservation(gymnasium.Env):
    """Has a space that the contract lacks."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"pair": spaces.Tuple((spaces.Discrete(2),) * 2)})
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"pair": (0, 0)}, {}


def _vector(mode: AutoresetMode, kind: type[gymnasium.Env]) -> Any:
    def make(num_envs: int, max_episode_steps: int | None = None, **arguments: Any) -> Any:
        return SyncVectorEnv([lambda: kind(**arguments)] * num_envs, autoreset_mode=mode)

    return make


for _mode in AutoresetMode:
    for _kind in (Counting, Masked, Seeded):
        gymnasium.register(
            f"{_kind.__name__}{_mode.value}-v0",
            entry_point=_kind,
            vector_entry_point=_vector(_mode, _kind),
        )
gymnasium.register("Limited-v0", entry_point=Counting, max_episode_steps=2)


def not_an_environment() -> str:
    """A factory that is none."""
    return "environment"


class Telltale(Counting):
    """Writes down which modules its process has imported, and which processes it is among."""

    def __init__(self, report: str) -> None:
        super().__init__()
        Path(report).write_text("\n".join(sorted(sys.modules)))


class Slow(Counting):
    """Takes a moment for each step: slow, but no hang."""

    def __init__(self, seconds: float = 0.2) -> None:
        super().__init__()
        self.seconds = seconds

    def step(self, action: int) -> Any:
        time.sleep(self.seconds)
        return super().step(action)
