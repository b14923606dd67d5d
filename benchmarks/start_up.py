"""Seconds from process start to the first policy update, and to the end of a small run.

Learner and samplers are real processes. Warm: the graph cache has the policy's graph. Cold: it is
empty, so that the policy is exported first. Timed from outside, by when the first row stands in
metrics.csv (it is written after the first update and the publication that follows).

    python benchmarks/start_up.py --name start_up
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

COMMAND = (
    *(sys.executable, "-m", "wiserl.cli", "train", "ppo", "--env", "CartPole-v1"),
    *("--total-steps", "20000", "--n-envs", "8", "--n-steps", "128", "--final-eval-episodes", "1"),
    *("--eval-points", "0", "--quiet"),
)


def first_update(cache: Path) -> float:
    """Seconds until the first row of metrics.csv."""
    environment = os.environ | {"WISERL_CACHE": str(cache)}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, "--runs", folder], env=environment, stdout=subprocess.DEVNULL
        )
        while not _has_row(Path(folder)):
            if process.poll() is not None:
                sys.exit("the run ended without an update")
            time.sleep(0.005)
        seconds = time.perf_counter() - start
        process.wait()
    return seconds


def _has_row(folder: Path) -> bool:
    return any(path.read_bytes().count(b"\n") > 1 for path in folder.glob("*/*/*/metrics.csv"))


def main() -> None:
    """Measures cold and warm and writes both down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    cold, warm = [], []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(first_update(Path(cache)))
            warm.append(first_update(Path(cache)))
        print(f"cold {cold[-1]:.2f} s, warm {warm[-1]:.2f} s")
    result = {"cold_seconds": harness.spread(cold), "warm_seconds": harness.spread(warm)}
    if options.name:
        print(harness.write(options.name, result))


if __name__ == "__main__":
    main()
