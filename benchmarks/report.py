"""Makes docs/results.md from the data under benchmarks/results/, and from nothing else.

python benchmarks/report.py            # writes the page
python benchmarks/report.py --check    # exit code 1 where the committed page differs
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from wiserl.bench import report, tasks

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"

HEAD = """# Results

Made by `benchmarks/report.py` from the data in `benchmarks/results/`; do not edit.

## Learning

A seed's score is the mean return of its final policy in 100 greedy episodes on fixed evaluation
seeds. IQM is the interquartile mean over seeds, in brackets its 95 % bootstrap interval. Presets
were tuned on seeds 0 to 5; the seeds here were named before the first run. "Steps to the gate" is
when the mean of the last 100 *training* episodes, which explore, first reached the gate.

"""


def rate(record: dict[str, Any]) -> str:
    """Steps a second into the learner beside the bare environments."""
    result, settings = record["result"], record["result"]["settings"]
    ours, bare = result["steps_per_second"], result["bare_one_core"]
    kind = "one by one" if settings["plain"] else "natively vectorised"
    return (
        f"| {settings['env']} {kind}, {settings['workers']} workers x "
        f"{settings['envs_per_worker']}, {settings['rows']} rows a fragment "
        f"| {ours['median']:,.0f} ({ours['min']:,.0f} to {ours['max']:,.0f}) "
        f"| {bare['median']:,.0f} | {ours['median'] / bare['median']:.2f} | "
        + " / ".join(f"{100 * share:.0f} %" for share in result["worker_time"].values())
        + " |"
    )


def rolling(records: list[dict[str, Any]]) -> str:
    """The table of rolling into a learner."""
    head = (
        "## Rolling into a learner\n\n"
        "Real sampler processes, a real gRPC learner that does everything but train; steps a\n"
        "second, median (range), beside the bare environments on one core in the same run.\n\n"
        "Where a worker's time goes: acting, stepping (with recording), the rest (waiting for\n"
        "the next round, new sessions).\n\n"
        "| what | steps/s | bare, one core | ratio | policy / environments / rest |\n"
        "|---|---|---|---|---|"
    )
    return "\n".join([head, *map(rate, records)])


def training(record: dict[str, Any]) -> str:
    """Training speed beside a peer."""
    result = record["result"]
    ours, peer = result["ours"], result["peer"]
    runs = result["runs"]
    waits, updates = (
        sorted(run[f"{name}_ms"] for run in runs)[len(runs) // 2] for name in ("wait", "update")
    )
    return (
        "## Training PPO on CartPole at equal settings\n\n"
        "8 environments x 128 steps, minibatches of 256, 4 epochs, 64x64, one torch thread each;\n"
        "runs in turns.\n\n"
        "| system | steps/s, median (range) |\n|---|---|\n"
        f"| WiseRL, gRPC learner and {result['workers']} workers "
        f"| {ours['median']:,.0f} ({ours['min']:,.0f} to {ours['max']:,.0f}) |\n"
        f"| {peer['system']} "
        f"| {peer['median']:,.0f} ({peer['min']:,.0f} to {peer['max']:,.0f}) |\n\n"
        f"Ratio of medians: {result['ratio_of_medians']:.2f}. Of a round of 1,024 rows "
        f"{updates:.0f} ms are the update\n"
        f"and {waits:.0f} ms the wait for samplers, which roll, push and pull in that time."
    )


def small(records: dict[str, dict[str, Any]]) -> str:
    """Start-up and memory."""
    lines = ["## Start-up and memory", "", "| what | measured |", "|---|---|"]
    if "start_up" in records:
        result = records["start_up"]["result"]
        for name in ("warm", "cold"):
            times = result[f"{name}_seconds"]
            lines.append(
                f"| process start to the first update, graph cache {name} "
                f"| {times['median']:.1f} s ({times['min']:.1f} to {times['max']:.1f}) |"
            )
    if "memory" in records:
        result = records["memory"]["result"]
        parts = " + ".join(f"{size:.0f}" for size in result["processes_mb"])
        lines.append(
            f"| memory of training with 2 workers, all processes (PSS) "
            f"| {result['pss_mb']:.0f} MB = {parts} |"
        )
    return "\n".join(lines)


def replay(record: dict[str, Any]) -> str:
    """Batches out of replay, beside plain NumPy and peers."""
    result, batch = record["result"], record["result"]["settings"]["batch"]
    found = result["batches_per_second"]
    plain = {name: found[f"plain_{name}"] for name in ("uniform", "prioritised")}
    lines = [
        "## Replay",
        "",
        f"Batches of {batch} out of {result['settings']['capacity']:,} rows of HalfCheetah's size,",
        "per second of CPU time of one thread, median (range), and over plain NumPy's median.",
        "Prioritised: draw, gather and new priorities.",
        "",
        "| store | uniform | ratio | prioritised | ratio |",
        "|---|---|---|---|---|",
    ]
    for system, rates in {"WiseRL": found, "plain NumPy": plain, **result["peers"]}.items():
        cells = [system]
        for name, base in plain.items():
            if name in rates:
                rate = rates[name]
                cells.append(f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})")
                cells.append(f"{rate['median'] / base['median']:.2f}")
            else:
                cells += ["-", "-"]
        lines.append(f"| {' | '.join(cells)} |")
    inserted = result["inserted_rows_per_second"]
    plain_rate, priorities, windows = (
        f"{inserted[name] / 1e6:.1f} M" for name in ("uniform", "prioritised", "uniform_5_step")
    )
    lines += [
        "",
        f"Inserted, in pushes of 800 rows: {plain_rate} rows a second,",
        f"{priorities} with priorities, {windows} with 5-step windows.",
    ]
    return "\n".join(lines)


def machines(records: dict[str, dict[str, Any]]) -> str:
    """Where each figure comes from."""
    lines = ["## Where this was measured", "", "| file | commit | machine | command |"]
    lines.append("|---|---|---|---|")
    for name, record in records.items():
        machine = record["machine"]
        lines.append(
            f"| `{name}.json` | {record['commit']} | {machine['processor']}, {machine['cores']} "
            f"cores, torch {machine['packages']['torch']} | `{record['command']}` |"
        )
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    rolled = [record for record in records.values() if record["benchmark"].startswith("rolling_")]
    parts = [HEAD + report.table(RESULTS / "learning", list(tasks.load().values()))]
    if "training_speed" in records:
        parts.append(training(records["training_speed"]))
    if rolled:
        parts.append(rolling(rolled))
    if "replay" in records:
        parts.append(replay(records["replay"]))
    parts += [small(records), machines(records)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    if parser.parse_args().check:
        if not PAGE.exists() or PAGE.read_text() != page():
            sys.exit("docs/results.md is not what the data says; run benchmarks/report.py")
        return
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
