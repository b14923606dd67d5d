"""Rows a second out of a replay of a million rows, beside plain NumPy and peers.

Rows as of HalfCheetah: 17 numbers observed, 6 of action, float32. Uniform: batches of 256 with both
observations, actions, returns and discounts. Prioritised: draw, gather, and new priorities for the
rows drawn. Plain NumPy has an array for each of these, observations twice, indexed with random
integers; its sum tree is binary, and all draws descend together. These take turns in one process,
peers in processes of their own between the turns; seconds are of CPU time, everything runs in one
thread. Quote ratios of medians.

    python benchmarks/replay.py --peer /path/to/peer/python --name replay
    python benchmarks/replay.py --profile
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import numpy as np

from common.signature import ColumnKey, ColumnSpec, Extent, Role
from learner.experience.on_policy import FragmentKey, Segment
from learner.experience.replay import ReplaySettings, ReplayStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

OBSERVATION, ACTION = 17, 6
CAPACITY, ROWS, SLOTS, BATCH = 1_000_000, 16, 50, 256
EXPONENT, BETA = 0.6, 0.4
SECONDS = 0.5

FLOAT, BOOL = np.dtype(np.float32), np.dtype(np.bool_)
FLAGS = (Role.TERMINATED, Role.TRUNCATED, Role.IS_FIRST, Role.VALID, Role.EPISODE_END)
SPECS = (
    ColumnSpec(ColumnKey(Role.OBSERVATION), FLOAT, (OBSERVATION,), Extent.ROWS_PLUS_ONE),
    ColumnSpec(ColumnKey(Role.ACTION), FLOAT, (ACTION,)),
    ColumnSpec(ColumnKey(Role.REWARD), FLOAT),
    *(ColumnSpec(ColumnKey(role), BOOL) for role in FLAGS),
)


def segment(random: np.random.Generator) -> Segment:
    """What a sampler pushes: 16 rows of 50 slots, of which none is invalid."""
    columns: dict[ColumnKey, NDArray[Any]] = {}
    for spec in SPECS:
        shape = spec.extent.leading(ROWS, SLOTS) + spec.shape
        if spec.dtype == FLOAT:
            columns[spec.key] = random.random(shape, np.float32)
        else:
            columns[spec.key] = np.full(shape, spec.key.role == Role.VALID)
    none = np.empty(0, np.int64)
    return Segment(columns, none, none, {SPECS[0].key: np.empty((0, OBSERVATION), FLOAT)}, [])


def filled(exponent: float | None, n_step: int) -> tuple[ReplayStore, float]:
    """A full store, and the rows a second that went into it."""
    settings = ReplaySettings(CAPACITY, ROWS, 0.99, n_step, priority_exponent=exponent)
    store = ReplayStore(SPECS, settings, seed=0)
    pushed = segment(np.random.default_rng(0))
    keys = [FragmentKey(0, slot, 0, 0) for slot in range(SLOTS)]
    pushes = CAPACITY // (ROWS * SLOTS)
    for _ in range(pushes):  # the kernel gives the pages meanwhile
        store.insert(pushed, keys)
    start = time.process_time()
    for _ in range(pushes):
        store.insert(pushed, keys)
    return store, CAPACITY / (time.process_time() - start)


class PlainBuffer:
    """What anybody would write: an array for each part of a transition."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        shapes = ((OBSERVATION,), (ACTION,), (OBSERVATION,), (), ())
        self.columns = [self.random.random((CAPACITY, *shape), np.float32) for shape in shapes]

    def sample(self) -> None:
        """One batch."""
        self.gather(self.random.integers(0, CAPACITY, BATCH))

    def gather(self, rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """The rows of a batch."""
        return [column[rows] for column in self.columns]


class PlainTree(PlainBuffer):
    """The same with a binary sum tree, as vectorised as that is in NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.leaves = 1 << (CAPACITY - 1).bit_length()
        self.depth = self.leaves.bit_length() - 1
        self.tree = np.zeros(2 * self.leaves)
        self.tree[self.leaves : self.leaves + CAPACITY] = 1.0
        for level in range(self.depth - 1, -1, -1):
            first = 1 << level
            pairs = self.tree[2 * first : 4 * first].reshape(-1, 2)
            self.tree[first : 2 * first] = pairs.sum(axis=1)

    def step(self, priorities: NDArray[np.float32]) -> None:
        """Draws a batch, gathers it, weighs it and changes its priorities."""
        targets = (np.arange(BATCH) + self.random.random(BATCH)) * (self.tree[1] / BATCH)
        nodes = np.ones(BATCH, np.int64)
        for _ in range(self.depth):
            nodes *= 2
            left = self.tree[nodes]
            right = targets >= left
            targets -= np.where(right, left, 0.0)
            nodes += right
        self.gather(nodes - self.leaves)
        weights = (CAPACITY * self.tree[nodes] / self.tree[1]) ** -BETA
        (weights / weights.max()).astype(np.float32)
        self.tree[nodes] = (priorities + 1e-6) ** EXPONENT
        for _ in range(self.depth):
            nodes //= 2
            self.tree[nodes] = self.tree[2 * nodes] + self.tree[2 * nodes + 1]


def rate(call: Callable[[], object]) -> float:
    """Calls a second of CPU time: other processes of the machine do not count."""
    calls, start = 0, time.process_time()
    while (passed := time.process_time() - start) < SECONDS:
        for _ in range(50):
            call()
        calls += 50
    return calls / passed


def subjects() -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """What is measured, by name, and how fast the stores were filled."""
    errors = np.random.default_rng(1).exponential(1.0, (64, BATCH)).astype(np.float32)
    turn = iter(range(10**12))
    uniform, inserted = filled(None, 1)
    prioritised, inserted_prioritised = filled(EXPONENT, 1)
    _, inserted_windows = filled(None, 5)
    plain, plain_tree = PlainBuffer(), PlainTree()

    def prioritised_step() -> None:
        batch = prioritised.sample(BATCH, beta=BETA)
        prioritised.update_priorities(batch, errors[next(turn) % 64])

    return {
        "uniform": lambda: uniform.sample(BATCH),
        "plain_uniform": plain.sample,
        "prioritised": prioritised_step,
        "plain_prioritised": lambda: plain_tree.step(errors[next(turn) % 64]),
    }, {
        "uniform": inserted,
        "prioritised": inserted_prioritised,
        "uniform_5_step": inserted_windows,
    }


def peer(python: str) -> dict[str, Any]:
    """What a peer's script prints: rates of the same names."""
    script = str(Path(__file__).parent / "peers" / "replay_buffers.py")
    done = subprocess.run([python, script], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Takes turns a few times and writes the medians down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", action="append", default=[], help="a Python with a peer in it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead")
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    measured, inserts = subjects()
    if options.profile:
        for name in ("uniform", "prioritised"):
            with cProfile.Profile() as profile:
                rate(measured[name])
            pstats.Stats(profile).sort_stats("tottime").print_stats(14)
        return
    rates: dict[str, list[float]] = {name: [] for name in measured}
    peers: dict[str, dict[str, list[float]]] = {}
    for _ in range(options.repeats):
        for name, call in measured.items():
            rates[name].append(rate(call))
        for python in options.peer:
            found = peer(python)
            for name, value in found["batches_per_second"].items():
                peers.setdefault(found["system"], {}).setdefault(name, []).append(value)
    result: dict[str, Any] = {
        "settings": {"capacity": CAPACITY, "observation": OBSERVATION, "action": ACTION}
        | {"batch": BATCH, "block_rows": ROWS},
        "batches_per_second": {name: harness.spread(values) for name, values in rates.items()},
        "inserted_rows_per_second": inserts,
        "peers": {
            system: {name: harness.spread(values) for name, values in found.items()}
            for system, found in peers.items()
        },
    }
    medians = {name: found["median"] for name, found in result["batches_per_second"].items()}
    result["uniform_rows_per_second"] = medians["uniform"] * BATCH
    result["ratio_to_plain_numpy"] = {
        name: medians[name] / medians[f"plain_{name}"] for name in ("uniform", "prioritised")
    }
    print(json.dumps(result, indent=1))
    if options.name:
        print(harness.write(options.name, result))


if __name__ == "__main__":
    main()
