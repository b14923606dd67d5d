"""Trains Stable-Baselines3 on the tasks of the learning benchmark, at the same hyperparameters.

The same environment steps, the same seeds, and 100 greedy episodes of the last policy on the same
evaluation seeds as `wiserl bench learning`. A finished run is one data file under
`results/peers/`; it can be stopped at any time and goes on later. The table in docs/results.md is
made from both by report.py.

    python benchmarks/peers_learning.py --peer /path/to/peer/python --minutes 60
    python benchmarks/peers_learning.py --peer /path/to/peer/python --task td3-pendulum
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness

from learner.algorithms import registry
from learner.config import RunConfig, evaluation_seeds
from wiserl.bench import queue, tasks
from wiserl.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parent / "peers" / "sb3_learning.py"
RESULTS = harness.RESULTS / "peers"


def order(unit: tasks.Unit) -> dict[str, Any]:
    """What the peer's script is told of a unit."""
    task = unit.task
    settings = Settings.gather(task.algorithm, environment=task.env, variables={})
    own = settings.applied(registry.resolve(task.algorithm).Config(), "hyperparameters")
    run = settings.applied(RunConfig(), "run")
    return {
        "algorithm": task.algorithm,
        "env": task.env,
        "env_args": run.env_args,
        "total_steps": task.total_steps,
        "seed": unit.seed,
        "evaluation_seeds": evaluation_seeds(task.episodes),
        "hyperparameters": dataclasses.asdict(own),
    }


@contextlib.contextmanager
def train(peer: str, unit: tasks.Unit, seconds: float) -> Iterator[dict[str, Any] | None]:
    """The peer's result of a unit; None where the time was not enough."""
    told = order(unit)
    start = time.monotonic()
    text = queue.run([peer, str(SCRIPT)], seconds, given=json.dumps(told))
    if text is None:
        yield None
        return
    answer = json.loads(text.splitlines()[-1])
    yield {
        "task": unit.task.name,
        "score": statistics.fmean(answer["returns"]),
        "wall_seconds": round(time.monotonic() - start, 2),
        **{key: told[key] for key in ("algorithm", "env", "seed", "hyperparameters")},
        **answer,
        "commit": harness.commit(),
        "machine": harness.machine(),
    }


def main() -> None:
    """Works at the queue."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="a Python that has the peer")
    parser.add_argument("--task", action="append", default=[], help="only this one; repeat it")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no run after this")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the data files")
    options = parser.parse_args()
    chosen = [task for task in tasks.select(tuple(options.task)) if task.reference is not None]
    runs = queue.Queue(options.results, functools.partial(train, options.peer))
    say = functools.partial(print, flush=True)
    runs.work(tasks.units(chosen), minutes=options.minutes, report=say)


if __name__ == "__main__":
    main()
