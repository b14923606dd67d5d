"""What a worker makes of its environments: rows a second of one worker core, beside the bare ones.

In one process and one thread, segment by segment in turn: the environments alone, with random
actions and nothing recorded, and a worker's core with a policy acting, as the learner publishes it
(PPO's, of several agents MAPPO's), that writes every row into a segment. Each segment is rolled
with a new version, as in a synchronous round, so that building its session counts. Time is
processor time: a neighbour's load counts for less.

    python benchmarks/rolling.py --envs 64 --rows 128
    python benchmarks/rolling.py --envs 16 --rows 128 --plain
    python benchmarks/rolling.py --envs 64 --rows 128 --profile
    python benchmarks/rolling.py --env mpe2/simple_spread_v3 --envs 4 --rows 100 --segments 20
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import itertools
import pstats
import time
from typing import TYPE_CHECKING, Any

import gymnasium
import harness
import numpy as np
import torch

from common import signature as signatures
from learner.algorithms.mappo import MAPPO, MAPPOConfig
from learner.algorithms.ppo import PPO, PPOConfig
from learner.publishing.publisher import Publisher
from protos.wiserl.v1 import environment_pb2, learner_pb2
from sampler import acting, graphs
from sampler.policy import Policy
from sampler.pool import PoolConfig
from sampler.worker_core import WorkerCore
from sampler.workload import SIZE_BYTES, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.signature import Signature
    from common.specs import EnvironmentSpec

ENVIRONMENT, ACTIONS = "CartPole-v1", 2


def published(spec: EnvironmentSpec, options: argparse.Namespace) -> tuple[Signature, bytes]:
    """What an algorithm asks for, and what of its policy rolling needs."""
    sizes, device = {"n_envs": options.envs, "n_steps": options.rows}, torch.device("cpu")
    algorithm: PPO
    if len(spec.agents) > 1:
        settings = MAPPOConfig(**sizes, state="observations")
        algorithm = MAPPO(spec, settings, device=device, seed=0)
    else:
        algorithm = PPO(spec, PPOConfig(**sizes), device=device, seed=0)
    model = Publisher(algorithm.behaviour, cache=None).publish(1).model
    needed = acting.outputs_for(algorithm.signature, greedy=False)
    restricted = graphs.restricted(graphs.parse(model), [output.name for output in needed])
    return algorithm.signature, restricted


def worker_segments(options: argparse.Namespace) -> Callable[[], None]:
    """A function that rolls one segment with a new version."""
    reference = environment_pb2.EnvironmentReference(id=options.env)
    wanted = "native" if options.env == ENVIRONMENT else "auto"
    config = PoolConfig(reference, reference, 1, options.envs, "plain" if options.plain else wanted)
    core = WorkerCore(config, 0, Workload(bytearray(SIZE_BYTES)))
    signature, graph = published(core.spec, options)
    registration = learner_pb2.RegisterResponse(signature=signatures.to_proto(signature), seed=1)
    core.configure(registration, [0] * options.envs)
    layout = core.layout(options.rows, options.envs)
    segment = layout.views(bytearray(layout.size_bytes))
    slots, versions = range(options.envs), itertools.count(1)

    def roll() -> None:
        core.roll(slots, options.rows, Policy(next(versions), graph), {}, segment)

    return roll


def bare_segments(options: argparse.Namespace) -> Callable[[], None]:
    """A function that steps the bare environments as often."""
    if options.env != ENVIRONMENT:
        return _bare_parallel(options)
    shape = (options.rows, options.envs)
    actions = np.random.default_rng(0).integers(0, ACTIONS, shape)
    if options.plain:
        return _bare_plain(actions.tolist())
    environment = gymnasium.make_vec(
        ENVIRONMENT, options.envs, vectorization_mode="vector_entry_point"
    )
    environment.reset(seed=1)

    def step() -> None:
        for action in actions:
            environment.step(action)

    return step


def _bare_plain(actions: list[list[int]]) -> Callable[[], None]:
    environments: list[gymnasium.Env[Any, Any]] = [
        gymnasium.make(ENVIRONMENT, disable_env_checker=True) for _ in actions[0]
    ]
    for environment in environments:
        environment.reset(seed=1)

    def step() -> None:
        for row in actions:
            for environment, action in zip(environments, row, strict=True):
                _, _, terminated, truncated, _ = environment.step(action)
                if terminated or truncated:
                    environment.reset()

    return step


def _bare_parallel(options: argparse.Namespace) -> Callable[[], None]:
    """The package's own `parallel_env`, of several agents."""
    module = importlib.import_module(options.env.replace("/", "."))
    environments = [module.parallel_env() for _ in range(options.envs)]
    for environment in environments:
        environment.reset(seed=1)
    agents = environments[0].possible_agents
    counts = [environments[0].action_space(agent).n for agent in agents]
    shape = (options.rows, options.envs, len(agents))
    actions = np.random.default_rng(0).integers(0, counts, shape).tolist()

    def step() -> None:
        for row in actions:
            for environment, chosen in zip(environments, row, strict=True):
                environment.step(dict(zip(agents, chosen, strict=True)))
                if not environment.agents:
                    environment.reset()

    return step


def rate(segment: Callable[[], None], rows: int) -> float:
    """Rows a second of processor time, of one segment."""
    began = time.process_time()
    segment()
    return rows / (time.process_time() - began)


def main() -> None:
    """Measures in turn and prints both; with `--profile` where a worker's time goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default=ENVIRONMENT, help="or one of PettingZoo's, package/name")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--rows", type=int, default=128, help="T of a segment")
    parser.add_argument("--plain", action="store_true", help="environments one by one")
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    rows = options.rows * options.envs
    roll, step = worker_segments(options), bare_segments(options)
    for segment in (roll, step, roll, step):
        segment()
    bare, ours = [], []
    for _ in range(options.segments):
        bare.append(rate(step, rows))
        ours.append(rate(roll, rows))
    # On a machine with neighbours the best tenth is nearest to what the program does by itself.
    for share, title in ((0.9, "best tenth"), (0.5, "median")):
        limit, got = np.quantile(bare, share), np.quantile(ours, share)
        print(f"{title}: worker {got:,.0f}, bare {limit:,.0f} rows/s, ratio {got / limit:.2f}")
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(lambda: [roll() for _ in range(20)])
        pstats.Stats(profile).sort_stats("tottime").print_stats(16)
    if options.name:
        result = {
            "settings": vars(options),
            "worker_rows_per_second": harness.spread(ours),
            "bare_rows_per_second": harness.spread(bare),
        }
        print(harness.write(options.name, result))


if __name__ == "__main__":
    main()
