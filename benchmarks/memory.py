"""Memory of a whole training run, all processes together, while PPO trains CartPole.

Proportional set size (PSS): pages shared by several processes are divided among them, so that the
sum is what the run really takes. Sampled while rounds go on; the largest sum counts.

    python benchmarks/memory.py --name memory
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

COMMAND = (
    *(sys.executable, "-m", "wiserl.cli", "train", "ppo", "--env", "CartPole-v1"),
    *("--total-steps", "100000", "--n-envs", "8", "--n-steps", "128", "--eval-points", "0"),
    *("--final-eval-episodes", "1", "--workers", "2", "--quiet"),
)


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    children = collections.defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children[found[-1]]
    return found


def pss_mb(pid: int) -> float:
    """Proportional set size in MB; 0 where the process is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def main() -> None:
    """Trains once and writes down the largest sum and what it was made of."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    most: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([*COMMAND, "--runs", folder], stdout=subprocess.DEVNULL)
        while process.poll() is None:
            sizes = sorted((pss_mb(pid) for pid in family(process.pid)), reverse=True)
            most = max(most, sizes, key=sum)
            time.sleep(0.2)
    result = {"pss_mb": round(sum(most), 1), "processes_mb": [round(size, 1) for size in most]}
    print(result)
    if options.name:
        print(harness.write(options.name, result))


if __name__ == "__main__":
    main()
