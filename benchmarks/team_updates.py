"""What a gradient step of the algorithms for several agents takes: CPU milliseconds of one thread.

Each with its preset for simple_spread (three agents, episodes of 25 steps), on random numbers in
the shapes of its experience: what networks compute does not depend on them. QMIX, VDN and MADDPG:
drawing a minibatch, and the update. MAPPO: the update on a round. A checkout has a process of its
own; with `--beside`, another one's takes short turns with this one's. Time is processor time: a
neighbour's load counts for less. Quote ratios of medians.

    python benchmarks/team_updates.py --name team_updates
    python benchmarks/team_updates.py --beside /path/to/another/checkout
    python benchmarks/team_updates.py --profile qmix
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import json
import os
import pstats
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import numpy as np
import torch

from common.signature import ColumnKey, ColumnSpec, Role
from learner import presets, schema
from learner.algorithms import registry
from learner.algorithms.base import OnPolicyAlgorithm
from learner.algorithms.from_store import StoreAlgorithm
from learner.experience.on_policy import FragmentKey, OnPolicyBatch, Segment
from learner.totals import RingCursor
from protos.wiserl.v1 import environment_pb2
from sampler.environments import building
from sampler.environments import registry as environments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from learner.algorithms.base import Algorithm

ENVIRONMENT, EPISODE = "mpe2/simple_spread_v3", 25
UPDATES = {"qmix": 20, "vdn": 30, "maddpg": 8, "mappo": 1}
"""Of one turn, by algorithm."""
STORED_ROWS = 26_000


def made(name: str) -> Algorithm[Any]:
    """An algorithm as its preset has it."""
    algorithm = registry.resolve(name)
    config = schema.apply(algorithm.Config(), "hyperparameters", presets.load(name, ENVIRONMENT))
    recipe = environments.resolve(environment_pb2.EnvironmentReference(id=ENVIRONMENT))
    spec = building.specification(recipe.plain())
    return algorithm(spec, config, device=torch.device("cpu"), seed=0)


def rolled(algorithm: Algorithm[Any], rows: int, slots: int, first_row: int) -> Segment:
    """Random numbers of episodes that are cut off, with the row of the reset behind each."""
    random = np.random.default_rng(first_row)
    place = np.broadcast_to(((first_row + np.arange(rows)) % (EPISODE + 1))[:, None], (rows, slots))
    given = {
        Role.IS_FIRST: place == 0,
        Role.EPISODE_END: place == EPISODE - 1,
        Role.VALID: place < EPISODE,
        Role.TRUNCATED: place == EPISODE - 1,
        Role.TERMINATED: np.zeros_like(place, np.bool_),
    }
    columns = {
        spec.key: column(spec, spec.extent.leading(rows, slots) + spec.shape, given, random)
        for spec in algorithm.signature.columns
    }
    none = np.empty(0, np.int64)
    finals = {key: array[0, :0] for key, array in columns.items() if key.role == Role.OBSERVATION}
    return Segment(columns, none, none, finals, [])


def column(
    spec: ColumnSpec,
    shape: tuple[int, ...],
    given: dict[Role, NDArray[np.bool_]],
    random: np.random.Generator,
) -> NDArray[Any]:
    """A column of a segment."""
    role = spec.key.role
    if role in given:
        flags = given[role]
        flags = flags.reshape(*flags.shape, *(1,) * (len(shape) - flags.ndim))
        return np.broadcast_to(flags, shape).copy()
    if spec.dtype == np.bool_:  # who is alive
        return np.ones(shape, np.bool_)
    if role == Role.ACTION:
        return random.integers(0, 5, shape).astype(spec.dtype)
    if role == Role.RECORD:  # log-probabilities
        return np.full(shape, -np.log(5.0), spec.dtype)
    return random.standard_normal(shape).astype(spec.dtype)


def steps(algorithm: Algorithm[Any]) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    """What draws a minibatch, and what learns from it."""
    if isinstance(algorithm, StoreAlgorithm):
        config = algorithm.config
        store = algorithm.store(seed=0, folder=None, cursor=RingCursor())
        length, slots = config.segment_length, config.n_envs
        for first_row in range(0, STORED_ROWS // slots, length):
            keys = [FragmentKey(0, slot, 0, first_row) for slot in range(slots)]
            store.insert(rolled(algorithm, length, slots, first_row), keys)
        return lambda: store.sample(config.batch_size), lambda batch: algorithm.update(batch, 0.5)
    if not isinstance(algorithm, OnPolicyAlgorithm) or algorithm.n_envs is None:
        raise TypeError(f"{algorithm.name} learns neither from a store nor from rounds of one size")
    segment = rolled(algorithm, algorithm.n_steps, algorithm.n_envs, 0)
    keys = [FragmentKey(0, slot, 0, 0) for slot in range(algorithm.n_envs)]
    valid = int(segment.columns[ColumnKey(Role.VALID)].sum())
    batch = OnPolicyBatch(
        1,
        segment.columns,
        segment.final_rows,
        segment.final_slots,
        segment.final_columns,
        [],
        valid,
        keys,
    )
    return lambda: batch, lambda batch: algorithm.update(batch, 0.5)


def turns(name: str) -> Iterator[dict[str, list[float]]]:
    """CPU milliseconds of draws and updates, some of each at a time."""
    torch.set_num_threads(1)
    draw, learn = steps(made(name))
    while True:
        times: dict[str, list[float]] = {"draw_ms": [], "update_ms": []}
        for _ in range(UPDATES[name]):
            begun = time.process_time()
            batch = draw()
            drawn = time.process_time()
            learn(batch)
            times["draw_ms"].append(1000 * (drawn - begun))
            times["update_ms"].append(1000 * (time.process_time() - drawn))
        yield times


def serve(name: str) -> None:
    """Answers every line with the times of a turn, as JSON."""
    for _, times in zip(sys.stdin, turns(name), strict=False):
        print(json.dumps(times), flush=True)


def measured(name: str, trees: dict[str, Path], count: int) -> dict[str, dict[str, list[float]]]:
    """The times of processes with the code of each checkout, by part and label; in turns."""
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", name]
    found: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        processes = {
            label: stack.enter_context(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=tree,
                    env={**os.environ, "PYTHONPATH": str(tree)},
                )
            )
            for label, tree in trees.items()
        }
        for turn in range(count + 1):
            for label, process in processes.items():
                print(file=process.stdin, flush=True)
                for part, times in json.loads(process.stdout.readline()).items():  # type: ignore[union-attr]
                    if turn:  # the first one warms up
                        found.setdefault(part, {}).setdefault(label, []).extend(times)
    return found


def summary(values: list[float]) -> dict[str, float]:
    """The best tenth, which is nearest to what a program does by itself, and the median."""
    best, median = np.quantile(values, [0.1, 0.5]).tolist()
    return {"best_tenth": best, "median": median, "count": len(values)}


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """Summaries by algorithm, part and checkout, and of two checkouts the ratio."""
    trees = {"this": harness.ROOT} | ({"beside": options.beside} if options.beside else {})
    result: dict[str, Any] = {}
    for name in options.algorithms:
        for part, by_tree in measured(name, trees, options.turns).items():
            found: dict[str, Any] = {label: summary(times) for label, times in by_tree.items()}
            shown = ", ".join(
                f"{label} {one['best_tenth']:.2f} ({one['median']:.2f})"
                for label, one in found.items()
            )
            if options.beside:
                found["ratio_of_medians"] = found["this"]["median"] / found["beside"]["median"]
                shown += f", ratio {found['ratio_of_medians']:.2f}"
            print(f"{name} {part}: best tenth (median) {shown}", flush=True)
            result.setdefault(name, {})[part] = found
    return result


def main() -> None:
    """Measures in turns and writes the medians down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithms", nargs="+", default=list(UPDATES), choices=list(UPDATES))
    parser.add_argument("--beside", type=Path, help="another checkout of this repository")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--profile", choices=list(UPDATES), help="where the time goes, instead")
    parser.add_argument("--serve", choices=list(UPDATES), help=argparse.SUPPRESS)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
    elif options.profile:
        taken = turns(options.profile)
        next(taken)
        profile = cProfile.Profile(time.process_time)
        profile.runcall(next, taken)
        pstats.Stats(profile).sort_stats("tottime").print_stats(24)
    else:
        result = compared(options)
        if options.name:
            print(harness.write(options.name, result))


if __name__ == "__main__":
    main()
