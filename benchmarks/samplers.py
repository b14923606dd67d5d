"""Whether an off-policy algorithm learns the same however many samplers there are, at equal steps.

DQN on CartPole unless told otherwise, by its preset, on 16 environments that 1, 2 or 16 samplers
share, one worker each. Beside returns, how well the limiter held the replay ratio, and who waited
for whom. Numbers of samplers take turns for each seed. The picture is drawn from the data file
alone.

    python benchmarks/samplers.py --name samplers
    python benchmarks/samplers.py --name samplers --draw-only
    python benchmarks/samplers.py --algorithm sac --env Pendulum-v1 --total-steps 10000 --name ...
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import numpy as np
import yaml

from learner import curves, plots, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

ENVIRONMENTS = 16
POINTS = 200
"""Of a run's curve in the data file."""

WARM_UP_SHARE = 0.1
"""Of the budget, after learning_starts: before that a ratio is one of few steps."""

FIRST = {"algorithm": "dqn", "env": "CartPole-v1"}
"""What is trained unless told otherwise; the first data file says nothing of it."""

COLOURS = ("#4878a8", "#edae49", "#d1495b", "#66a182", "#7b5ea7")


def train(options: argparse.Namespace, samplers: int, seed: int) -> dict[str, Any]:
    """One run, from start to finish, as the data file has it."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "wiserl.cli", "train", options.algorithm]
        command += ["--env", options.env]
        command += ["--seed", str(seed), "--total-steps", str(options.total_steps)]
        command += ["--samplers", str(samplers), "--workers", "1"]
        command += ["--envs-per-worker", str(ENVIRONMENTS // samplers)]
        command += ["--n-envs", str(ENVIRONMENTS), "--rows-in-flight", str(options.rows_in_flight)]
        command += ["--eval-points", "0", "--final-eval-episodes", str(options.episodes)]
        command += ["--threads", "1", "--runs", runs, "--quiet"]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - begin
        (folder,) = Path(runs).glob("*/*/*")
        return {"samplers": samplers, "seed": seed, "wall_seconds": wall, **measured(folder)}


def measured(folder: Path) -> dict[str, Any]:
    """What a run's folder says: the score, the curve, the replay ratio, and who waited."""
    result = json.loads((folder / "result.json").read_text())
    config = yaml.safe_load((folder / "config.yaml").read_text())
    chosen = config["hyperparameters"]
    table = {
        name: np.array([float(text or "nan") for text in column])
        for name, column in tables.read(folder / "metrics.csv").items()
    }
    steps, lag = table["global_step"], table["replay/lag"]
    learning = steps > chosen["learning_starts"]
    warm = steps > chosen["learning_starts"] + WARM_UP_SHARE * config["run"]["total_steps"]
    ratio = table["replay/ratio"]
    return {
        "score": result["final_evaluation"]["return_mean"],
        "episodes": result["final_evaluation"]["episodes"],
        "environment_steps": result["environment_steps"],
        "gradient_steps": int(np.nanmax(table["train/n_updates"])),
        "target": {
            "ratio": chosen["replay_ratio"],
            "window": chosen["replay_ratio"]
            * (chosen["replay_window"] or chosen["rows_in_flight"]),
        },
        "ratio": {"min": ratio[warm].min(), "max": ratio[warm].max(), "end": ratio[-1]},
        "lag": {"min": lag[learning].min(), "max": lag[learning].max(), "end": lag[-1]},
        "insert_wait_seconds": table["replay/insert_wait_seconds"][-1],
        "sample_wait_seconds": table["time/wait_seconds"][learning].sum(),
        # From when samplers are let in, without the start of the processes.
        "training_seconds": steps[-1] / table["time/fps"][-1],
        "curve": thinned(
            environment_steps=steps, ep_rew_mean=table["rollout/ep_rew_mean"], replay_lag=lag
        ),
    }


def thinned(**columns: np.ndarray) -> dict[str, list[float]]:
    """Every k-th row of those without an empty cell, and the last one."""
    rows = np.stack(list(columns.values()), axis=1)
    rows = rows[np.isfinite(rows).all(axis=1)]
    kept = rows[:: max(1, -(-len(rows) // POINTS))]
    if len(rows) and (kept[-1] != rows[-1]).any():
        kept = np.concatenate([kept, rows[-1:]])
    return dict(zip(columns, np.round(kept, 3).T.tolist(), strict=True))


def counted(number: int, what: str) -> str:
    """So many of something."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def draw(record: dict[str, Any], path: Path) -> None:
    """The picture of a data file: returns above, how far the learner lagged behind below."""
    result = record["result"]
    figure = plots.figure((8, 6.4))
    returns, lags = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    for number, colour in zip(result["settings"]["samplers"], COLOURS, strict=False):
        runs = [run["curve"] for run in result["runs"] if run["samplers"] == number]
        label = f"{counted(number, 'sampler')} x {counted(ENVIRONMENTS // number, 'environment')}"
        _draw(returns, runs, "ep_rew_mean", colour, f"{label} ({len(runs)} seeds)")
        _draw(lags, runs, "replay_lag", colour)
    window = result["runs"][0]["target"]["window"]
    lags.axhspan(-window, window, color="#eeeeee", zorder=0, label="window of the limiter")
    settings = FIRST | result["settings"]
    title = f"{settings['algorithm'].upper()} on {settings['env']}, the same 16 environments"
    plots.finish(returns, title=title, x="", y="return (last 100)")
    plots.finish(lags, title="", x="environment steps", y="gradient steps behind")
    for axes in (returns, lags):
        axes.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=9)
    figure.supxlabel(
        "line: mean over seeds; band: their range; thin lines: single seeds",
        fontsize=8,
        color="#666666",
        x=0.99,
        ha="right",
    )
    figure.savefig(path)


def _draw(
    axes: Axes, runs: Sequence[dict[str, Any]], name: str, colour: str, label: str | None = None
) -> None:
    found = [curves.Curve(np.array(run["environment_steps"]), np.array(run[name])) for run in runs]
    for each in found:
        axes.plot(each.x, each.y, color=colour, linewidth=0.6, alpha=0.35)
    mean = curves.mean(found)
    if mean is None:
        return
    values = [np.interp(mean.x, each.x, each.y) for each in found]
    axes.fill_between(
        mean.x,
        np.min(values, axis=0),
        np.max(values, axis=0),
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    axes.plot(mean.x, mean.y, color=colour, linewidth=1.8, label=label)


def main() -> None:
    """Trains in turns, writes the data down and draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--algorithm", default=FIRST["algorithm"], help="one that learns from a replay"
    )
    parser.add_argument("--env", default=FIRST["env"])
    parser.add_argument("--samplers", type=int, nargs="+", default=[1, 2, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--total-steps", type=int, default=50_000)
    parser.add_argument("--rows-in-flight", type=int, default=16 * 40)
    parser.add_argument("--episodes", type=int, default=100, help="of the final evaluation")
    parser.add_argument("--name", help="write benchmarks/results/NAME.json, docs/images/NAME.png")
    parser.add_argument("--draw-only", action="store_true", help="the picture of NAME again")
    options = parser.parse_args()
    if any(ENVIRONMENTS % number for number in options.samplers):
        parser.error(f"each number of samplers must divide {ENVIRONMENTS}")
    if options.draw_only and not options.name:
        parser.error("--draw-only needs --name")
    data = harness.RESULTS / f"{options.name}.json"
    if not options.draw_only:
        runs = []
        for seed in options.seeds:
            for number in options.samplers:
                runs.append(train(options, number, seed))
                print(json.dumps({k: v for k, v in runs[-1].items() if k != "curve"}))
        runs.sort(key=lambda run: (run["samplers"], run["seed"]))
        if options.name:
            harness.write(options.name, {"settings": vars(options), "runs": runs})
    if options.name:
        draw(json.loads(data.read_text()), harness.ROOT / "docs" / "images" / f"{options.name}.png")
        print(data)


if __name__ == "__main__":
    main()
