"""What presets reached here, as it is shipped: a summary of the learning benchmark's data.

`benchmarks/report.py` makes `reached.yaml` beside this module from the data, which an installed
package has none of.
"""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wiserl.bench.tasks import Task

FILE = resources.files("wiserl.bench").joinpath("reached.yaml")


@dataclasses.dataclass(frozen=True)
class Reached:
    """What a preset came to over several seeds.

    Attributes:
        algorithm: Its name.
        env: The environment's id.
        total_steps: Environment steps of each run.
        seeds: How many runs there were.
        iqm: The interquartile mean over them, of the final policy's mean greedy return.
        low: Where its 95 % bootstrap interval begins.
        high: Where that ends.
        changed: Settings that the preset has otherwise now; none where it is still the same.
    """

    algorithm: str
    env: str
    total_steps: int
    seeds: int
    iqm: float
    low: float
    high: float
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people."""
        runs = f"{self.seeds} seeds" if self.seeds > 1 else "1 seed"
        steps = f"{self.total_steps:,} steps"
        text = f"{self.iqm:.1f} [{self.low:.1f}, {self.high:.1f}] over {runs} of {steps}"
        return f"{text}, with another {', '.join(self.changed)}" if self.changed else text


def of_task(task: Task, records: Sequence[Mapping[str, Any]], preset: Mapping[str, Any]) -> Reached:
    """The summary of a task's data.

    Args:
        task: The task.
        records: The data, one run each, at least one.
        preset: The hyperparameters that the preset gives now.
    """
    from wiserl.bench import statistics  # which needs scipy, and listing presets does not

    scores = [float(record["score"]) for record in records]
    low, high = statistics.interval(scores)
    used = [record["configuration"]["hyperparameters"] for record in records]
    changed = {name for one in used for name in one.keys() & preset if one[name] != preset[name]}
    return Reached(
        task.algorithm,
        task.env,
        task.total_steps,
        seeds=len(scores),
        iqm=round(statistics.interquartile_mean(scores), 2),
        low=round(low, 2),
        high=round(high, 2),
        changed=tuple(sorted(changed)),
    )


def load() -> dict[tuple[str, str], Reached]:
    """What was reached, by algorithm and environment."""
    found = [
        Reached(**{**fields, "changed": tuple(fields["changed"])})
        for fields in yaml.safe_load(FILE.read_text(encoding="utf-8"))
    ]
    return {(one.algorithm, one.env): one for one in found}


def dump(found: Sequence[Reached]) -> str:
    """The file's text."""
    documents = [{**dataclasses.asdict(one), "changed": list(one.changed)} for one in found]
    text = yaml.safe_dump(documents, sort_keys=False)
    return f"# Made by benchmarks/report.py from benchmarks/results/learning/; do not edit.\n{text}"
