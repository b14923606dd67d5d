"""Batches a second out of a peer's replay of a million rows, as benchmarks/replay.py fills ours.

Measures whichever of cpprb and Stable-Baselines3 is installed, in an environment of its own, so
that its pins do not touch ours. Prints one JSON line.

    python benchmarks/peers/replay_buffers.py
"""

from __future__ import annotations

import importlib.util
import json
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

OBSERVATION, ACTION = 17, 6
CAPACITY, BATCH = 1_000_000, 256
SECONDS = 0.5

Subjects = dict[str, "Callable[[], object]"]


def rate(call: Callable[[], object]) -> float:
    """Calls a second of CPU time: other processes of the machine do not count."""
    calls, start = 0, time.process_time()
    while (passed := time.process_time() - start) < SECONDS:
        for _ in range(50):
            call()
        calls += 50
    return calls / passed


def stable_baselines3() -> Subjects:
    """Its uniform buffer, filled directly; batches come as torch tensors on the CPU."""
    import torch
    from gymnasium import spaces
    from stable_baselines3.common.buffers import ReplayBuffer

    torch.set_num_threads(1)
    box = spaces.Box(-1.0, 1.0, (OBSERVATION,), np.float32)
    action = spaces.Box(-1.0, 1.0, (ACTION,), np.float32)
    buffer = ReplayBuffer(CAPACITY, box, action, device="cpu", handle_timeout_termination=False)
    random = np.random.default_rng(0)
    for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards):
        array[:] = random.random(array.shape, np.float32)
    buffer.full = True
    return {"uniform": lambda: buffer.sample(BATCH)}


def cpprb() -> Subjects:
    """Its uniform and its prioritised buffer."""
    from cpprb import PrioritizedReplayBuffer, ReplayBuffer

    fields: dict[str, Any] = {
        "obs": {"shape": OBSERVATION},
        "act": {"shape": ACTION},
        "rew": {},
        "next_obs": {"shape": OBSERVATION},
        "done": {},
    }
    uniform = ReplayBuffer(CAPACITY, fields)
    prioritised = PrioritizedReplayBuffer(CAPACITY, fields, alpha=0.6)
    random = np.random.default_rng(0)
    part = CAPACITY // 10
    for _ in range(10):
        rows = {
            "obs": random.random((part, OBSERVATION), np.float32),
            "act": random.random((part, ACTION), np.float32),
            "rew": random.random(part, np.float32),
            "next_obs": random.random((part, OBSERVATION), np.float32),
            "done": np.zeros(part, np.float32),
        }
        uniform.add(**rows)
        prioritised.add(**rows)
    errors = random.exponential(1.0, BATCH).astype(np.float32)

    def step() -> None:
        batch = prioritised.sample(BATCH, beta=0.4)
        prioritised.update_priorities(batch["indexes"], errors)

    return {"uniform": lambda: uniform.sample(BATCH), "prioritised": step}


def main() -> None:
    """Measures once and prints the rates."""
    for package, name, subjects in (
        ("cpprb", "cpprb", cpprb),
        ("stable_baselines3", "Stable-Baselines3", stable_baselines3),
    ):
        if importlib.util.find_spec(package):
            rates = {what: rate(call) for what, call in subjects().items()}
            system = f"{name} {metadata.version(package)}"
            print(json.dumps({"system": system, "batches_per_second": rates}))
            return
    raise SystemExit("neither cpprb nor stable-baselines3 is installed here")


if __name__ == "__main__":
    main()
