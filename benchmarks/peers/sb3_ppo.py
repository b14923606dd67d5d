"""Stable-Baselines3's PPO at the settings of the training-speed table, for comparison.

Runs in an environment of its own (`pip install stable-baselines3`), so that its pins do not touch
ours. Prints one JSON line: steps a second of `learn()`, from the first environment step on.

    python benchmarks/peers/sb3_ppo.py --steps 100000
"""

from __future__ import annotations

import argparse
import json
import time

import gymnasium
import stable_baselines3
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv


def main() -> None:
    """Trains once and prints the rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    environments = DummyVecEnv([lambda: gymnasium.make(options.env) for _ in range(8)])
    model = PPO(
        "MlpPolicy",
        environments,
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        device="cpu",
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
    )
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
