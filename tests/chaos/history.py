"""What samplers and a run's folder tell of a run whose learner was killed, and what must hold.

The checks take plain data and give sentences, one for each violation, so that they can be shown to
find what is broken on purpose.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
from typing import TYPE_CHECKING

from run_tables import rows

from learner.ledger import LossReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from learner.totals import Totals

STORED = frozenset({"VERDICT_ACCEPTED", "VERDICT_DUPLICATE"})
NOT_KEPT = (LossReason.UNKNOWN_SAMPLER, LossReason.SEQUENCE_GAP, LossReason.ENDED, LossReason.STALE)
"""Reasons for which a push that is nowhere is in the ledger."""


@dataclasses.dataclass(frozen=True)
class Push:
    """A push as its sampler knows of it.

    Attributes:
        sampler: Id of the sampler.
        sequence: Of the push.
        version: The policy's.
        rows: T x B.
        steps: Numbers of the observations of its valid rows.
        verdict: The final answer; None where there was none.
        newest_version: What the answer said.
    """

    sampler: str
    sequence: int
    version: int
    rows: int
    steps: tuple[int, ...]
    verdict: str | None = None
    newest_version: int = 0

    def __str__(self) -> str:
        return f"push {self.sequence} of {self.sampler[:8]} ({self.verdict})"


@dataclasses.dataclass(frozen=True)
class Record:
    """The record of one sampler process.

    Attributes:
        pushes: In the order in which they were sent.
        policies: Version and SHA-256 of those that it was told of, in order.
    """

    pushes: tuple[Push, ...]
    policies: tuple[tuple[int, str], ...]


@dataclasses.dataclass(frozen=True)
class Ring:
    """What a ring in files holds at the end of a run that had room for all of it."""

    steps: Sequence[int]
    """Numbers of the observations of its valid rows."""
    totals: Totals


@dataclasses.dataclass(frozen=True)
class Tables:
    """metrics.csv and evaluations.csv at some time.

    Attributes:
        metrics: Version and environment steps of every row.
        evaluations: Version of every row.
    """

    metrics: tuple[tuple[int, int], ...]
    evaluations: tuple[int, ...]


def read_record(path: Path) -> Record:
    """What a sampler wrote so far; a line that is half written does not count yet."""
    pushes: dict[tuple[str, int], Push] = {}
    policies = []
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        entry = json.loads(line)
        event = entry.pop("event")
        key = entry.get("sampler"), entry.get("sequence")
        if event == "policy":
            policies.append((entry["version"], entry["sha256"]))
        elif event == "push":
            assert key not in pushes, f"{path} has sequence {key} twice"
            pushes[key] = Push(**{**entry, "steps": tuple(entry["steps"])})
        else:
            pushes[key] = dataclasses.replace(pushes[key], **entry)
    return Record(tuple(pushes.values()), tuple(policies))


def read_tables(folder: Path) -> Tables:
    """The tables of a run's folder; empty where they are not there yet."""
    metrics = [(int(row["version"]), int(row["global_step"])) for row in rows(folder)]
    evaluations = [int(row["version"]) for row in rows(folder, "evaluations")]
    return Tables(tuple(metrics), tuple(evaluations))


def check_ring(pushes: Iterable[Push], ring: Ring, samplers: int) -> Iterator[str]:
    """That a ring holds what was acknowledged, once, and nothing that was never sent.

    Args:
        pushes: Of all samplers.
        ring: At the end.
        samplers: How many there were; of each, one push may be that was sent when the run was over.
    """
    pushes = list(pushes)
    counts = collections.Counter(ring.steps)
    yield from (f"row {step} is there {n} times" for step, n in counts.items() if n > 1)
    sent = {step for push in pushes for step in push.steps}
    yield from (f"row {step} is there and was never sent" for step in counts.keys() - sent)
    cut = [push for push in pushes if _stored(push, counts) and _absent(push, counts)]
    if len(cut) > 1:
        yield f"only the push that met the budget may be there in part, not {_listed(cut)}"
    yield from _check_answers(pushes, counts)
    yield from _check_amounts(ring, sum(_absent(push, counts) for push in cut))
    yield from _check_lost(pushes, counts, ring.totals, samplers)


def _stored(push: Push, counts: Mapping[int, int]) -> int:
    return sum(step in counts for step in push.steps)


def _absent(push: Push, counts: Mapping[int, int]) -> int:
    return len(push.steps) - _stored(push, counts)


def _listed(pushes: Iterable[object]) -> str:
    return ", ".join(map(str, pushes))


def _check_answers(pushes: Iterable[Push], counts: Mapping[int, int]) -> Iterator[str]:
    for push in pushes:
        found = _stored(push, counts)
        if push.verdict in STORED and not found:
            yield f"{push} is nowhere"
        elif push.verdict not in {*STORED, None} and found:
            yield f"{push} is there: {found} rows"
        if push.verdict == "REFUSED":
            yield f"{push}: nothing was wrong with it"


def _check_amounts(ring: Ring, cut: int) -> Iterator[str]:
    totals = ring.totals
    if len(ring.steps) != totals.environment_steps:
        yield f"{len(ring.steps)} rows are there, counted are {totals.environment_steps}"
    beyond = _lost(totals, LossReason.BEYOND_BUDGET)
    if cut != beyond:
        yield f"{cut} rows of an acknowledged push lack, beyond the budget were {beyond}"
    if lost := _lost(totals, LossReason.LOST_IN_RESTART):
        yield f"{lost} rows were lost in restarts"


def _lost(totals: Totals, reason: LossReason) -> int:
    return totals.losses[reason].rows if reason in totals.losses else 0


def _check_lost(
    pushes: Iterable[Push], counts: Mapping[int, int], totals: Totals, samplers: int
) -> Iterator[str]:
    """That the ledger has every push that is nowhere, but for those that never arrived anywhere."""
    nowhere = [push for push in pushes if push.steps and not _stored(push, counts)]
    ledger = sum(totals.losses[reason].pushes for reason in NOT_KEPT if reason in totals.losses)
    if not ledger <= len(nowhere) <= ledger + samplers:
        yield f"{len(nowhere)} pushes are nowhere ({_listed(nowhere)}), the ledger has {ledger}"


def check_budget(steps: Sequence[int], budget: int) -> Iterator[str]:
    """That counts of environment steps, in the order in which they were seen, reach the budget."""
    for before, after in itertools.pairwise(steps):
        if after < before:
            yield f"environment steps fell from {before} to {after}"
    if not steps or steps[-1] != budget:
        yield f"environment steps ended at {steps[-1:]}, the budget is {budget}"


def check_restart(before: Tables, after: Tables) -> Iterator[str]:
    """That a restarted process continued the tables that it found, with versions above theirs."""
    for name in ("metrics", "evaluations"):
        was, now = getattr(before, name), getattr(after, name)
        if now[: len(was)] != was:
            yield f"{name}: the {len(was)} rows of before are not there any more"
    found = [*(version for version, _ in before.metrics), *before.evaluations]
    new = [version for version, _ in after.metrics[len(before.metrics) :]]
    new += after.evaluations[len(before.evaluations) :]
    if found and new and min(new) <= max(found):
        yield f"version {min(new)} came after a restart, {max(found)} before it"


def check_versions(tables: Tables, records: Iterable[Record]) -> Iterator[str]:
    """That a version is one model, and that nobody ever saw one after a later one."""
    versions = [version for version, _ in tables.metrics]
    yield from _check_rising("metrics.csv", versions)
    repeated = [v for v, n in collections.Counter(tables.evaluations).items() if n > 1]
    yield from (f"version {version} was evaluated more than once" for version in repeated)
    yield from _check_rising("evaluations.csv", tables.evaluations)
    models: dict[int, set[str]] = collections.defaultdict(set)
    for record in records:
        for version, sha256 in record.policies:
            models[version].add(sha256)
        told = [push.newest_version for push in record.pushes if push.newest_version]
        yield from _check_rising("answers", told)
    for version, found in models.items():
        if len(found) > 1:
            yield f"version {version} is {len(found)} models"


def _check_rising(where: str, versions: Sequence[int]) -> Iterator[str]:
    for before, after in itertools.pairwise(versions):
        if after < before:
            yield f"{where}: version {after} after {before}"


def check_acknowledged(pushes: Iterable[Push], totals: Totals) -> Iterator[str]:
    """That a killed learner's header knows of every push whose answer its sampler has."""
    for push in pushes:
        known = totals.samplers.get(push.sampler)
        if push.verdict is not None and (known is None or push.sequence > known.sequence):
            yield f"{push} was answered, the header has {known}"


def rows_known(pushes: Iterable[Push], totals: Totals) -> tuple[int, int]:
    """Between how many rows a header with these sequences must have accepted."""
    least = most = 0
    for push in pushes:
        if push.sampler in totals.samplers and (
            push.sequence <= totals.samplers[push.sampler].sequence
        ):
            least += push.rows * (push.verdict in STORED)
            most += push.rows * (push.verdict in {*STORED, None})
    return least, most
