"""An environment whose every observation is another: it says which copy it is of, and its number.

So a row that turns up anywhere can be told from every other row that was ever rolled.
"""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np

_BITS = 12
"""Of each entry: few enough that float32 holds them, and sums of them, exactly."""

_COPY_PARTS, _STEP_PARTS = 4, 2
_STEPS = 1 << _BITS * _STEP_PARTS
_EPISODE = 23
"""Steps, of episodes that terminate and are truncated in turn."""


class Counting(gymnasium.Env[Any, Any]):
    """Counts its own observations, over all episodes of its life."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (_COPY_PARTS + _STEP_PARTS,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self._first = int.from_bytes(os.urandom(6), "big") * _STEPS
        self._count = 0
        self._left = _EPISODE

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = _EPISODE
        return self._next(), {}

    def step(self, action):
        self._left -= 1
        over, odd = not self._left, bool(self._count % 2)
        return self._next(), float(action), over and odd, over and not odd, {}

    def _next(self):
        self._count += 1
        return encoded(self._first + self._count)


def encoded(number: int):
    """[6] float32 of an observation's number."""
    parts = (_COPY_PARTS + _STEP_PARTS) * _BITS
    entries = [number >> at & (1 << _BITS) - 1 for at in range(0, parts, _BITS)]
    return np.array(entries, np.float32) / (1 << _BITS)


def decoded(observations) -> list[int]:
    """[N] numbers of [N, 6] observations."""
    entries = np.rint(np.asarray(observations, np.float64) * (1 << _BITS)).astype(np.int64)
    return [sum(part << _BITS * i for i, part in enumerate(row)) for row in entries.tolist()]
