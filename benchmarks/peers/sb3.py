"""Stable-Baselines3's algorithms at the settings of the training-speed table, for comparison.

Runs in an environment of its own (`pip install stable-baselines3`), so that its pins do not touch
ours. Prints one JSON line: steps a second of `learn()`, without the steps before the first gradient
step.

    python benchmarks/peers/sb3.py ppo --steps 100000
    python benchmarks/peers/sb3.py dqn --steps 50000
    python benchmarks/peers/sb3.py sac --steps 4000 --env Pendulum-v1
"""

from __future__ import annotations

import argparse
import json
import time

import gymnasium
import stable_baselines3
import torch
from stable_baselines3 import DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv

CONTINUOUS = {
    "buffer_size": 100_000,
    "learning_starts": 500,
    "batch_size": 256,
    "train_freq": 1,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [256, 256]},
}

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
    "ddpg": (DDPG, 1, CONTINUOUS),
    "td3": (TD3, 1, CONTINUOUS),
    "sac": (SAC, 1, CONTINUOUS),
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
    model.learn(settings.get("learning_starts", 0))
    before = model.num_timesteps
    start = time.perf_counter()
    model.learn(options.steps - before, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "system": f"Stable-Baselines3 {stable_baselines3.__version__}",
                "steps_per_second": (model.num_timesteps - before) / seconds,
                "steps": model.num_timesteps,
                "torch": torch.__version__,
                "torch_threads": options.threads,
            }
        )
    )


if __name__ == "__main__":
    main()
