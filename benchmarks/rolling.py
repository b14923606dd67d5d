"""What a worker makes of its environments: rows a second of one worker core, beside the bare ones.

In one process and one thread, segment by segment in turn: the environments alone, with random
actions and nothing recorded, and a worker's core with a 64 x 64 policy acting (uniform noise,
Gumbel-max, log_prob recorded) that writes every row into a segment. Each segment is rolled with a
new version, as in a synchronous round, so that building its session counts.

    python benchmarks/rolling.py --envs 64 --rows 128
    python benchmarks/rolling.py --envs 16 --rows 128 --plain
    python benchmarks/rolling.py --envs 64 --rows 128 --profile
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import pstats
import time
from typing import TYPE_CHECKING, Any

import gymnasium
import harness
import numpy as np
import onnx
from onnx import numpy_helper

from common import signature as signatures
from common.signature import (
    ColumnKey,
    ColumnSpec,
    Extent,
    GraphInput,
    GraphOutput,
    Noise,
    Role,
    Signature,
)
from protos.wiserl.v1 import environment_pb2, learner_pb2
from sampler.policy import Policy
from sampler.pool import PoolConfig
from sampler.worker_core import WorkerCore
from sampler.workload import SIZE_BYTES, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT, INT, BOOL = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)
ENVIRONMENT, OBSERVATION, ACTIONS = "CartPole-v1", 4, 2

GRAPH = """
<ir_version: 10, opset_import: ["" : 18]>
policy (float[B, 4] observation, float[B, 2] noise) => (int64[B] action, float[B] log_prob) {
  h0 = Gemm (observation, w0, b0)
  t0 = Tanh (h0)
  h1 = Gemm (t0, w1, b1)
  t1 = Tanh (h1)
  logits = Gemm (t1, w2, b2)
  log_probs = LogSoftmax <axis = -1> (logits)
  l0 = Log (noise)
  l1 = Neg (l0)
  l2 = Log (l1)
  perturbed = Sub (log_probs, l2)
  action = ArgMax <axis = -1, keepdims = 0> (perturbed)
  last = Constant <value_ints = [-1]> ()
  chosen = Unsqueeze (action, last)
  taken = GatherElements <axis = -1> (log_probs, chosen)
  log_prob = Squeeze (taken, last)
}
"""


def policy_graph() -> bytes:
    """The policy, with small random weights."""
    model = onnx.parser.parse_model(GRAPH)
    random = np.random.default_rng(0)
    sizes = (OBSERVATION, 64, 64, ACTIONS)
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weight = random.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
        for name, array in ((f"w{layer}", weight), (f"b{layer}", np.zeros(columns, np.float32))):
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model.SerializeToString()


def policy_signature() -> Signature:
    """What PPO asks for on CartPole."""
    rows = [
        (ColumnKey(Role.ACTION), INT),
        (ColumnKey(Role.RECORD, "", "log_prob"), FLOAT),
        (ColumnKey(Role.REWARD), FLOAT),
    ]
    flags = (Role.TERMINATED, Role.TRUNCATED, Role.IS_FIRST, Role.VALID, Role.EPISODE_END)
    observation = ColumnSpec(
        ColumnKey(Role.OBSERVATION), FLOAT, (OBSERVATION,), Extent.ROWS_PLUS_ONE
    )
    return Signature(
        (
            GraphInput("observation", Role.OBSERVATION, FLOAT, (OBSERVATION,)),
            GraphInput("noise", Role.NOISE, FLOAT, (ACTIONS,), "", "u", noise=Noise.OPEN_UNIFORM),
        ),
        (
            GraphOutput("action", Role.ACTION, INT),
            GraphOutput("log_prob", Role.RECORD, FLOAT, (), "", "log_prob"),
        ),
        (
            observation,
            *(ColumnSpec(key, dtype) for key, dtype in rows),
            *(ColumnSpec(ColumnKey(role), BOOL) for role in flags),
        ),
    )


def worker_segments(options: argparse.Namespace) -> Callable[[], None]:
    """A function that rolls one segment with a new version."""
    reference = environment_pb2.EnvironmentReference(id=ENVIRONMENT)
    vectorization = "plain" if options.plain else "native"
    config = PoolConfig(reference, reference, 1, options.envs, vectorization)
    core = WorkerCore(config, 0, Workload(bytearray(SIZE_BYTES)))
    signature = signatures.to_proto(policy_signature())
    core.configure(learner_pb2.RegisterResponse(signature=signature, seed=1), [0] * options.envs)
    layout = core.layout(options.rows, options.envs)
    segment = layout.views(bytearray(layout.size_bytes))
    graph, slots, versions = policy_graph(), range(options.envs), iter(range(1, 1 << 60))

    def roll() -> None:
        core.roll(slots, options.rows, Policy(next(versions), graph), {}, segment)

    return roll


def bare_segments(options: argparse.Namespace) -> Callable[[], None]:
    """A function that steps the bare environments as often."""
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


def rate(segment: Callable[[], None], rows: int) -> float:
    """Rows a second of one segment."""
    began = time.perf_counter()
    segment()
    return rows / (time.perf_counter() - began)


def main() -> None:
    """Measures in turn and prints both; with `--profile` where a worker's time goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    # On a machine with neighbours the best tenth is what the program does by itself.
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
