"""Stable-Baselines3's PPO or DQN at the settings of the training-speed table, for comparison.

Runs in an environment of its own (`pip install stable-baselines3`), so that its pins do not touch
ours. Prints one JSON line: steps a second of `learn()`, from the first environment step on.

    python benchmarks/peers/sb3.py ppo --steps 100000
    python benchmarks/peers/sb3.py dqn --steps 50000
"""

from __future__ import annotations

import argparse
import json
import time

import gymnasium
import stable_baselines3
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

SETTINGS = {
    "ppo": (
        PPO,
        8,
        {
            "n_steps": 128,
            "batch_size": 256,
            "n_epochs": 4,
            "policy_kwargs": {"net_arch": [64, 64]},
        },
    ),
    "dqn": (
        DQN,
        1,
        {
            "learning_rate": 2.5e-4,
            "buffer_size": 10_000,
            "learning_starts": 1_000,
            "batch_size": 128,
            "train_freq": 10,
            "gradient_steps": 1,
            "target_update_interval": 500,
            "policy_kwargs": {"net_arch": [120, 84]},
        },
    ),
}
"""The class, its environments and its settings, by algorithm."""


def main() -> None:
    """Trains once and prints the rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("algorithm", choices=tuple(SETTINGS))
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    algorithm, count, settings = SETTINGS[options.algorithm]
    environments = DummyVecEnv([lambda: gymnasium.make(options.env) for _ in range(count)])
    model = algorithm("MlpPolicy", environments, device="cpu", seed=0, **settings)
    start = time.perf_counter()
    model.learn(options.steps)
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "system": f"Stable-Baselines3 {stable_baselines3.__version__}",
                "steps_per_second": model.num_timesteps / seconds,
                "steps": model.num_timesteps,
                "torch": torch.__version__,
                "torch_threads": options.threads,
            }
        )
    )


if __name__ == "__main__":
    main()
