"""Makes docs/results.md and what `wiserl presets` says from the data under benchmarks/results/.

python benchmarks/report.py            # writes them
python benchmarks/report.py --check    # exit code 1 where what is committed differs
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import anchors_table
import peers_table
from samplers import FIRST

from learner.algorithms import registry
from wiserl.bench import reached, report, tasks
from wiserl.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
SHIPPED = ROOT / "wiserl" / "bench" / "reached.yaml"

HEAD = """# Results

Made by `benchmarks/report.py` from the data in `benchmarks/results/`; do not edit.

## Learning

A seed's score is the mean return of its final policy in 100 greedy episodes (of several agents in
512) on fixed evaluation seeds. IQM is the interquartile mean over seeds, in brackets its 95 %
bootstrap interval. Presets were tuned on seeds 0 to 5; the seeds here were named before they were
run, all but two lots of them before the first one was: 110 to 119 of TRPO on Pendulum and 105 to
109 of PPO on LunarLander were added where the first seeds had left the interval beside the peer's
too wide to judge. All count. The presets of TD3, of IMPALA, of MAPPO and, on simple_spread, of
MADDPG, VDN and QMIX were changed after runs on seeds from 100 on, all but IMPALA's because they
missed their gates on them or could not reach them; so theirs begin at 110, VDN's, which was changed
again after 110 missed it, at 113, and QMIX's, whose 110 was stopped when its values ran away, at
111.
"Steps to the gate" is when the mean of the last 100 *training* episodes, which explore, first
reached it.

"""


def rate(record: dict[str, Any]) -> str:
    """Steps a second into the learner beside the bare environments."""
    result, settings = record["result"], record["result"]["settings"]
    ours, bare = result["steps_per_second"], result["bare_one_core"]
    kind = "one by one" if settings["plain"] else "natively vectorised"
    return (
        f"| {settings['env']} {kind}, {settings['workers']} workers x "
        f"{settings['envs_per_worker']}, {settings['rows']} rows a fragment "
        f"| {spread(ours)} "
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


def several_agents(records: list[dict[str, Any]]) -> str:
    """The table of one worker's core on environments with several agents."""
    lines = [
        "## Rolling several agents",
        "",
        "One worker's core, MAPPO's policy acting, every row recorded, beside the package's own",
        "`parallel_env` stepped with random actions, in turns; steps a second of processor time,",
        "median (range).",
        "",
        "| environment | worker | bare | ratio |",
        "|---|---|---|---|",
    ]
    for record in records:
        result = record["result"]
        ours, bare = (result[f"{name}_rows_per_second"] for name in ("worker", "bare"))
        lines.append(
            f"| {result['settings']['env']} | {spread(ours)} | {spread(bare)} "
            f"| {ours['median'] / bare['median']:.2f} |"
        )
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is said beside the training speed of an algorithm.

    Attributes:
        settings: What ours and the peer's were told.
        spent: Where the learner's time went, with names of `times` in braces.
        environment: What they train on.
    """

    settings: str
    spent: str
    environment: str = "CartPole"


FROM_REPLAY = (
    "Between two rows of `metrics.csv` the\n"
    "learner takes gradient steps for {update:.1f} ms, draws what they train on for\n"
    "{sample:.1f} ms, and waits for samplers for {wait:.1f} ms."
)
CONTINUOUS = Comparison(
    "Networks of 256 and 256 units, a gradient step of 256 transitions for every\n"
    "environment step, one torch thread each; runs in turns.",
    FROM_REPLAY,
    "Pendulum",
)

TRAINING = {
    "ppo": Comparison(
        "8 environments x 128 steps, minibatches of 256, 4 epochs, 64x64, one torch thread each;\n"
        "runs in turns.",
        "Of a round of 1,024 rows {update:.0f} ms are the update\n"
        "and {wait:.0f} ms the wait for samplers, which roll, push and pull in that time.",
    ),
    "dqn": Comparison(
        "Networks of 120 and 84 units, a gradient step of 128 transitions for every 10\n"
        "environment steps, one torch thread each; runs in turns.",
        FROM_REPLAY,
    ),
    **dict.fromkeys(("ddpg", "td3", "sac"), CONTINUOUS),
}


def training(record: dict[str, Any]) -> str:
    """Training speed beside a peer."""
    result = record["result"]
    algorithm = record["benchmark"].removeprefix("training_speed_")
    told = TRAINING[algorithm]
    ours, peer = result["ours"], result["peer"]
    times = {
        name.removesuffix("_ms"): statistics.median_high(run[name] for run in result["runs"])
        for name in result["runs"][0]
    }
    return (
        f"## Training {algorithm.upper()} on {told.environment} at equal settings\n\n"
        f"{told.settings}\n\n"
        "| system | steps/s, median (range) |\n|---|---|\n"
        f"| WiseRL, gRPC learner and {result['workers']} workers "
        f"| {spread(ours)} |\n"
        f"| {peer['system']} | {spread(peer)} |\n\n"
        f"Ratio of medians: {result['ratio_of_medians']:.2f}. {told.spent.format(**times)}"
    )


SAMPLERS_COLUMNS = (
    *("samplers", "final greedy return of each seed", "replay ratio at the end", "on the way"),
    *("behind", "samplers waited", "learner waited", "steps/s"),
)


def samplers(record: dict[str, Any]) -> str:
    """Learning with different numbers of samplers at equal steps."""
    runs, settings = record["result"]["runs"], FIRST | record["result"]["settings"]
    target = runs[0]["target"]
    *some, most = settings["samplers"]
    lines = [
        f"## {settings['algorithm'].upper()} with {', '.join(map(str, some))} and {most} samplers",
        "",
        f"{settings['env']}, {settings['total_steps']:,} steps, the same 16 environments shared by",
        "so many samplers. The limiter holds gradient steps to environment steps at",
        f"{target['ratio']:g}; either side may run ahead by {target['window']:g} gradient steps,",
        "and a push that has room is taken whole. On the way: once a tenth of the steps were",
        "learned from. Behind: by how many gradient steps the learner lagged, from the first one",
        "on. Waited: the samplers' share of the time for room, and the learner's for rows.",
        "",
        f"![Returns and lag for several numbers of samplers](images/{record['benchmark']}.png)",
        "",
        f"| {' | '.join(SAMPLERS_COLUMNS)} |",
        "|---" * len(SAMPLERS_COLUMNS) + "|",
    ]
    for number in settings["samplers"]:
        these = [run for run in runs if run["samplers"] == number]
        lines.append(f"| {number} | {' | '.join(_cells(these))} |")
    return "\n".join(lines)


def _cells(runs: list[dict[str, Any]]) -> list[str]:
    """What is said of the runs with one number of samplers."""
    seconds = [run["training_seconds"] for run in runs]
    held = [
        run["insert_wait_seconds"] / run["samplers"] / passed
        for run, passed in zip(runs, seconds, strict=True)
    ]
    waited = [run["sample_wait_seconds"] / t for run, t in zip(runs, seconds, strict=True)]
    rates = [run["environment_steps"] / t for run, t in zip(runs, seconds, strict=True)]

    def bounds(name: str) -> tuple[float, float]:
        return min(run[name]["min"] for run in runs), max(run[name]["max"] for run in runs)

    ends = sorted({f"{run['ratio']['end']:.4f}" for run in runs})
    low, high = bounds("ratio")
    first, last = bounds("lag")
    return [
        ", ".join(f"{run['score']:.1f}" for run in runs),
        ", ".join(ends),
        f"{low:.3f} to {high:.3f}",
        f"{first:.0f} to {last:.0f}",
        f"{100 * statistics.median(held):.0f} %",
        f"{100 * statistics.median(waited):.0f} %",
        f"{statistics.median(rates):,.0f}",
    ]


def ingest(record: dict[str, Any]) -> str:
    """Pushes into the replay, over gRPC."""
    result = record["result"]
    raw = result["raw_mb_per_second"]
    lines = [
        "## Into the replay",
        "",
        f"Pushes of about 1 MiB from {result['settings']['clients']} processes over loopback gRPC,",
        "checked, inserted into a full ring and committed; nothing is trained. MB/s are beside",
        f"{spread(raw)} MB/s of raw bytes that a gRPC server drops, in the same run.",
        "",
        "| pushed | rows x slots | ring in | MB/s, median (range) | of raw | transitions/s |",
        "|---|---|---|---|---|---|",
    ]
    for found in result["ingested"]:
        rate = found["mb_per_second"]
        lines.append(
            f"| {found['kind']} | {found['rows']} x {found['slots']} | {found['ring']} "
            f"| {spread(rate)} | {rate['median'] / raw['median']:.2f} "
            f"| {found['transitions_per_second']['median']:,.0f} |"
        )
    return "\n".join(lines)


def spread(rate: dict[str, Any]) -> str:
    """A median with its range."""
    return f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})"


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
                cells.append(spread(rate))
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
            f"cores, torch {machine['packages']['torch']} | `{command(record)}` |"
        )
    return "\n".join(lines)


def command(record: dict[str, Any]) -> str:
    """What made a record; where a peer's Python lay concerns nobody else."""
    return re.sub(r"--peer \S+", "--peer PEER_PYTHON", record["command"])


def page() -> str:
    """The whole page."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    rolled, worked = (
        [record for record in records.values() if record["benchmark"].startswith(name)]
        for name in ("rolling_", "worker_")
    )
    sections = {
        "samplers": samplers,
        "samplers_sac": samplers,
        **{f"training_speed_{algorithm}": training for algorithm in TRAINING},
        "rolling": rolling,
        "worker": several_agents,
        "ingest": ingest,
        "replay": replay,
    }
    parts = [HEAD + report.table(RESULTS / "learning", list(tasks.load().values()))]
    random = records.get("random_policies", {"result": {"returns": {}}})
    chance = random["result"]["returns"]
    if anchors := anchors_table.section(records):
        parts.append(anchors)
    if beside := peers_table.section(RESULTS, chance):
        parts.append(beside)
    for name, section in sections.items():
        if found := {"rolling": rolled, "worker": worked}.get(name, records.get(name)):
            parts.append(section(found))
    parts += [small(records), machines(records)]
    return "\n\n".join(parts) + "\n"


def shipped() -> str:
    """What the package brings of the data: what each preset reached."""
    found = []
    for task in tasks.load().values():
        if records := report.read(RESULTS / "learning", task):
            settings = Settings.gather(task.algorithm, environment=task.env, variables={})
            own = settings.applied(registry.resolve(task.algorithm).Config(), "hyperparameters")
            # As the data has it, where a tuple is a list.
            preset = json.loads(json.dumps(dataclasses.asdict(own)))
            found.append(reached.of_task(task, records, preset))
    return reached.dump(found)


def main() -> None:
    """Writes or checks the page and what is shipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args()
    made = {PAGE: page(), SHIPPED: shipped()}
    if options.check:
        for path, text in made.items():
            if not path.exists() or path.read_text() != text:
                name = path.relative_to(ROOT)
                sys.exit(f"{name} is not what the data says; run benchmarks/report.py")
        return
    for path, text in made.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
