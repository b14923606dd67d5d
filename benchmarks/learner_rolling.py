"""How fast samplers roll into a learner that does everything but train.

A real learner front and real sampler processes: each round is granted, rolled with the policy
acting, pushed, checked, copied into the round's columns and closed; then a changed policy is
published as the next version. Beside it, in the same run, the bare environments are stepped with
random actions in one process: what no system on this machine can exceed on one core.

    python benchmarks/learner_rolling.py --workers 2 --envs-per-worker 64 --rows 512
    python benchmarks/learner_rolling.py --workers 2 --envs-per-worker 16 --rows 256 --plain
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time

import gymnasium
import harness
import numpy as np
import torch

from learner.algorithms.ppo import PPO, PPOConfig
from learner.config import RunConfig
from learner.front.coordinator import Coordinator
from learner.front.server import FrontServer
from learner.front.settings import FrontSettings, RunIdentity
from learner.publishing.publisher import Publisher
from protos.wiserl.v1 import learner_pb2
from wiserl import cli


def rolling(options: argparse.Namespace) -> tuple[float, dict[str, float]]:
    """Valid environment steps a second that reach the learner, after a warm-up of a fifth.

    And the shares of the workers' time: the policy's, the environments' (with what is recorded of
    them), and the rest, in which a worker waits for a grant, a session or a buffer.
    """
    run = RunConfig(env=options.env)
    environment = run.training_environment()
    budget = 1 << 60
    settings = FrontSettings(total_steps=budget, seed=0, expect_samplers=options.samplers)
    front = FrontServer(
        Coordinator(RunIdentity("rolling", "ppo", environment, environment), settings)
    )
    front.start()
    command = [sys.executable, "-m", "sampler", "--learner", front.address]
    command += ["--workers", str(options.workers)]
    command += ["--envs-per-worker", str(options.envs_per_worker)]
    command += ["--vectorization", "plain" if options.plain else "native"]
    samplers = [subprocess.Popen(command) for _ in range(options.samplers)]
    try:
        return _measure(front, options)
    finally:
        with front.locked() as coordinator:
            coordinator.finish("measured")
        for sampler in samplers:
            sampler.wait(30)
        front.stop()


def _worked(front: FrontServer) -> np.ndarray:
    """Seconds of policy and environments, summed over all workers so far."""
    with front.locked() as coordinator:
        status = coordinator.watch(front.now(), learner_pb2.WatchRunRequest())
    progress = [sampler.progress for sampler in status.samplers]
    return np.array([(one.policy_seconds, one.environment_seconds) for one in progress]).sum(0)


def _measure(front: FrontServer, options: argparse.Namespace) -> tuple[float, dict[str, float]]:
    n_envs = options.samplers * options.workers * options.envs_per_worker
    config = PPOConfig(n_envs=n_envs, n_steps=options.rows)
    spec = front.wait(lambda coordinator: coordinator.spec)
    algorithm = PPO(spec, config, device=torch.device("cpu"), seed=0)
    publisher = Publisher(algorithm.behaviour, cache=None)
    with front.locked() as coordinator:
        coordinator.open_run(algorithm.signature, fragment_rows=options.rows)
    parameter = next(algorithm.behaviour.parameters())
    steps, version = 0, 0
    begin = measured_from = time.perf_counter()
    warm, worked_before = False, np.zeros(2)
    while (now := time.perf_counter()) < begin + options.seconds or not warm:
        if not warm and version and now > begin + options.seconds / 5:
            warm, measured_from, steps, worked_before = True, now, 0, _worked(front)
        version += 1
        with torch.no_grad():
            parameter.add_(1e-6)
        publication = publisher.publish(version)
        with front.locked() as coordinator:
            coordinator.publish(publication, {})
            coordinator.open_round(front.now(), n_envs=n_envs, n_steps=options.rows)
        steps += front.wait(lambda coordinator: coordinator.closed_round()).steps
    seconds = time.perf_counter() - measured_from
    workers = options.samplers * options.workers
    policy, environments = (_worked(front) - worked_before) / (seconds * workers)
    shares = {"policy": policy, "environments": environments, "rest": 1 - policy - environments}
    return steps / seconds, shares


def bare(options: argparse.Namespace) -> float:
    """Steps a second of the bare environments in this process, random actions, nothing recorded."""
    count = options.envs_per_worker
    if options.plain:
        environments = [gymnasium.make(options.env, disable_env_checker=True) for _ in range(count)]
        return _bare_plain(environments, options.seconds / 4)
    environment = gymnasium.make_vec(options.env, count, vectorization_mode="vector_entry_point")
    environment.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 2, size=(1000, count))
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() < begin + options.seconds / 4:
        for action in actions:
            environment.step(action)
        calls += len(actions)
    return calls * count / (time.perf_counter() - begin)


def _bare_plain(environments: list[gymnasium.Env], seconds: float) -> float:
    for environment in environments:
        environment.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 2, size=(1000, len(environments))).tolist()
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() < begin + seconds:
        for row in actions:
            for environment, action in zip(environments, row, strict=True):
                _, _, terminated, truncated, _ = environment.step(action)
                if terminated or truncated:
                    environment.reset()
        steps += len(actions) * len(environments)
    return steps / (time.perf_counter() - begin)


def main() -> None:
    """Measures in turn, a few times over, and writes the medians down."""
    # As in every learner that is started by `wiserl`.
    gc.set_threshold(cli.OBJECTS_BETWEEN_COLLECTIONS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--samplers", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--envs-per-worker", type=int, default=64)
    parser.add_argument("--rows", type=int, default=512, help="T of a fragment")
    parser.add_argument("--plain", action="store_true", help="environments one by one")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    ours, limits, shares = [], [], []
    for _ in range(options.repeats):
        limits.append(bare(options))
        rate, share = rolling(options)
        ours.append(rate)
        shares.append(share)
        print(f"{ours[-1]:,.0f} steps/s; bare environments on one core {limits[-1]:,.0f}")
    result = {
        "settings": vars(options),
        "steps_per_second": harness.spread(ours),
        "bare_one_core": harness.spread(limits),
        "worker_time": {
            name: statistics.median(share[name] for share in shares) for name in shares[0]
        },
    }
    ratio = result["steps_per_second"]["median"] / result["bare_one_core"]["median"]
    print(f"median {result['steps_per_second']['median']:,.0f} steps/s, {ratio:.2f} x bare core")
    if options.name:
        print(harness.write(options.name, result))


if __name__ == "__main__":
    main()
