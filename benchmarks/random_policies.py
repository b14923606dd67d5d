"""What uniformly random actions return in the environments of learning tasks.

python benchmarks/random_policies.py --name random_policies
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import gymnasium
import harness
import numpy as np

from common import references
from protos.wiserl.v1 import environment_pb2
from sampler.environments import registry
from wiserl.bench import tasks
from wiserl.random_agents import RandomAgents

if TYPE_CHECKING:
    from sampler.environments.multi_agent import ParallelEnvironment


def returns(env: str, episodes: int) -> list[float]:
    """The return of each episode, of several agents their mean; seeds count from 0."""
    allowed = [references.module_of(env)] if references.is_reference(env) else []
    reference = environment_pb2.EnvironmentReference(id=env)
    environment = registry.resolve(reference, allowed).plain()
    if isinstance(environment, gymnasium.Env):
        environment.action_space.seed(0)
        return [_of_one(environment, seed) for seed in range(episodes)]
    return [_of_several(environment, seed) for seed in range(episodes)]


def _of_one(environment: gymnasium.Env[Any, Any], seed: int) -> float:
    environment.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        action = environment.action_space.sample()
        _, reward, terminated, truncated, _ = environment.step(action)
        total, over = total + float(reward), terminated or truncated
    return total


def _of_several(environment: ParallelEnvironment, seed: int) -> float:
    agents = list(map(str, environment.possible_agents))
    drawing = RandomAgents(environment, agents)
    drawing.reset(seed=seed)
    total = 0.0
    while drawing.agents:
        _, rewards, *_ = drawing.step(dict.fromkeys(drawing.agents))
        total += float(np.sum(list(rewards.values()))) / len(agents)
    return total


def main() -> None:
    """Plays, prints and writes the means down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    environments = dict.fromkeys(task.env for task in tasks.load().values())
    means = {}
    for env in environments:
        found = returns(env, options.episodes)
        means[env] = sum(found) / len(found)
        print(f"{env}: {means[env]:.2f}")
    if options.name:
        print(harness.write(options.name, {"episodes": options.episodes, "returns": means}))


if __name__ == "__main__":
    main()
