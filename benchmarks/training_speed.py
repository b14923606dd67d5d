"""Steps a second of training, ours beside a peer's at equal settings.

CartPole for PPO: 8 environments x 128 steps, minibatches of 256, 4 epochs, 64x64 networks; and for
DQN: a network of 120 and 84 units, a gradient step of 128 transitions for every 10 environment
steps, a buffer of 10,000, a target network copied every 500 environment steps. Pendulum for DDPG,
TD3 and SAC: networks of 256x256, a gradient step of 256 transitions for every environment step.
One torch thread each. Ours is the whole distributed form: a gRPC learner and sampler processes.
Runs alternate, so that a change of the machine's speed meets both; quote the ratio of medians.

    python benchmarks/training_speed.py --peer /path/to/peer/python --name training_speed_ppo
    python benchmarks/training_speed.py --algorithm dqn --peer ... --name training_speed_dqn
    python benchmarks/training_speed.py --algorithm sac --steps 4000 --peer ... --name \
        training_speed_sac
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

from learner import tables

COMMON = ("--eval-points", "0", "--final-eval-episodes", "1", "--threads", "1", "--quiet")
CONTINUOUS = (
    *("--n-envs", "8", "--replay-ratio", "1", "--batch-size", "256", "--buffer-size", "100000"),
    *("--learning-starts", "500", "--hidden-sizes", "256", "256"),
)
SETTINGS = {
    "ppo": (
        *("--n-envs", "8", "--n-steps", "128", "--n-minibatches", "4", "--epochs", "4"),
        *("--hidden-sizes", "64", "64"),
    ),
    "dqn": (
        *("--n-envs", "8", "--replay-ratio", "0.1", "--batch-size", "128", "--buffer-size"),
        *("10000", "--learning-starts", "1000", "--hidden-sizes", "120", "84"),
        *("--target-update-interval", "50", "--learning-rate", "2.5e-4"),
    ),
    **dict.fromkeys(("ddpg", "td3", "sac"), CONTINUOUS),
}
ENVIRONMENTS = {"ppo": "CartPole-v1", "dqn": "CartPole-v1"}
"""The others train on Pendulum."""
WARM_UP_SHARE = 0.1


def environment(options: argparse.Namespace) -> str:
    """What both train on."""
    return ENVIRONMENTS.get(options.algorithm, "Pendulum-v1")


def ours(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Steps a second after a warm-up, and where a round's time went (medians, milliseconds)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "wiserl.cli", "train", options.algorithm]
        command += ["--env", environment(options)]
        command += ["--total-steps", str(options.steps), "--seed", str(seed), "--runs", folder]
        command += ["--workers", str(options.workers), *SETTINGS[options.algorithm]]
        command += COMMON
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(folder).glob("*/*/*/metrics.csv")
        columns = tables.read(path)
    steps = [float(text) for text in columns["global_step"]]
    elapsed = [float(text) for text in columns["time/time_elapsed"]]
    updates = columns["train/n_updates"]
    begun = next(row for row, text in enumerate(updates) if text and float(text) > 0)
    first = begun + int((len(steps) - begun) * WARM_UP_SHARE)
    found = {"steps_per_second": (steps[-1] - steps[first]) / (elapsed[-1] - elapsed[first])}
    for name in ("wait", "sample", "update", "publish"):
        if f"time/{name}_seconds" in columns:
            times = [float(text) for text in columns[f"time/{name}_seconds"][first:]]
            found[f"{name}_ms"] = 1000 * sorted(times)[len(times) // 2]
    return found


def peer(options: argparse.Namespace) -> dict[str, float]:
    """What the peer's script prints."""
    script = str(Path(__file__).parent / "peers" / "sb3.py")
    command = [options.peer, script, options.algorithm, "--steps", str(options.steps)]
    command += ["--env", environment(options)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Alternates both a few times and writes the medians down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", default="ppo", choices=tuple(SETTINGS))
    parser.add_argument("--peer", help="a Python with Stable-Baselines3; leave out to skip it")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    own, other = [], []
    for seed in range(options.repeats):
        own.append(ours(options, seed))
        print(json.dumps(own[-1]))
        if options.peer:
            other.append(peer(options))
            print(json.dumps(other[-1]))
    rates = [run["steps_per_second"] for run in own]
    result = {
        "algorithm": options.algorithm,
        "workers": options.workers,
        "ours": harness.spread(rates),
        "runs": own,
    }
    if other:
        rates = [run["steps_per_second"] for run in other]
        result["peer"] = {"system": other[0]["system"], **harness.spread(rates)}
        result["ratio_of_medians"] = result["ours"]["median"] / result["peer"]["median"]
        print(f"{result['ratio_of_medians']:.2f} x {other[0]['system']}")
    if options.name:
        print(harness.write(options.name, result))


if __name__ == "__main__":
    main()
