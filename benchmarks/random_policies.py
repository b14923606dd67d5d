"""What uniformly random actions return, in the environments that are compared with a peer.

python benchmarks/random_policies.py --name random_policies
"""

from __future__ import annotations

import argparse

import gymnasium
import harness

from wiserl.bench import tasks


def returns(env: str, episodes: int) -> list[float]:
    """The return of each episode; seeds count from 0."""
    environment = gymnasium.make(env)
    environment.action_space.seed(0)
    found = []
    for seed in range(episodes):
        environment.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action = environment.action_space.sample()
            _, reward, terminated, truncated, _ = environment.step(action)
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    return found


def main() -> None:
    """Plays, prints and writes the means down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    environments = {task.env: None for task in tasks.load().values() if task.reference is not None}
    means = {}
    for env in environments:
        found = returns(env, options.episodes)
        means[env] = sum(found) / len(found)
        print(f"{env}: {means[env]:.1f}")
    if options.name:
        print(harness.write(options.name, {"episodes": options.episodes, "returns": means}))


if __name__ == "__main__":
    main()
