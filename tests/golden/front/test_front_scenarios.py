"""Plays the scenarios beside this file: commands, and indented below each what is answered.

WISERL_REWRITE=1 writes what it answers into the files instead: read the diff before you commit it.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

import pytest
from front_support import (
    COLUMNS,
    OBSERVATION,
    Part,
    make_batch,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    pushed,
    register_request,
    report_request,
)

from common.errors import InvalidFieldError
from learner.experience.replay import ReplaySettings, ReplayStore
from learner.exploration import Ladder
from learner.front.refusals import Refusal
from learner.front.settings import Limits
from learner.rate_limiter import LimiterSettings, RateLimiter
from learner.staleness import PublishingInterval, StalenessSettings
from learner.totals import MemoryHeader, Totals
from protos.wiserl.v1 import grant_pb2, learner_pb2

INDENT = "    "
SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))


@dataclasses.dataclass
class Sampler:
    """What a sampler knows of the learner and of itself."""

    sampler_id: str
    base: int = 0
    version: int = 0
    sha256: bytes = b""
    scalars: int = 0
    revision: int = 0
    rolled: int = 0
    sent: tuple[float, learner_pb2.PushTrajectoriesRequest] | None = None
    rows: dict[int, int] = dataclasses.field(default_factory=dict)


class Scenario:
    """A coordinator and its samplers; each method is a command and answers text."""

    def __init__(self):
        self.now = 0.0
        self.samplers = {}

    def play(self, line):
        """Executes one line."""
        words = shlex.split(line)
        flags = [word for word in words[1:] if "=" not in word]
        options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        try:
            return getattr(self, words[0])(*flags, **options) or "ok"
        except Refusal as refusal:
            return f"{refusal.code.name} {refusal.reason}: {refusal}"
        except (ValueError, KeyError, InvalidFieldError) as error:
            return f"{type(error).__name__}: {error}"

    def run(self, steps="1000", rows="2", lease="6000", expect=None, restarts="0"):
        self.rows = int(rows)
        self.settings = {
            "total_steps": int(steps),
            "rows": self.rows,
            "expect_samplers": expect and int(expect),
            "limits": Limits(lease_milliseconds=int(lease)),
        }
        self.header = MemoryHeader(Totals(restarts=int(restarts)))
        self.coordinator = make_coordinator(**self.settings, header=self.header)

    def restart(self):
        """Another process serves the run; it has nothing but the header."""
        self.header = MemoryHeader(
            dataclasses.replace(self.header.totals, restarts=self.header.totals.restarts + 1)
        )
        self.coordinator = make_coordinator(**self.settings, header=self.header)

    def totals(self):
        totals = self.header.totals
        lines = [f"{totals.environment_steps} steps, {totals.rows} rows"]
        lines += [
            f"{name}: sequence {sampler.sequence}, {sampler.rows} rows"
            for name, sampler in totals.samplers.items()
        ]
        return "\n".join(lines)

    def clock(self, now):
        self.now = float(now)
        self.coordinator.tick(self.now)
        due = self.coordinator.next_tick()
        return f"next tick {'never' if due is None else f'{due:g}'}"

    def register(self, name, slots="2", previous=None):
        sampler = Sampler(f"sampler-{name}")
        fields = {} if previous is None else {"previous_index": int(previous)}
        request = register_request(sampler.sampler_id, int(slots), **fields)
        response = self.coordinator.register(self.now, request)
        if response is None:
            return "waits"
        sampler.base = response.incarnation_base
        if name in self.samplers:
            sampler.sent = self.samplers[name].sent
        self.samplers[name] = sampler
        return (
            f"index {response.index}, incarnations from {response.incarnation_base}, "
            f"last sequence {response.last_sequence}"
        )

    def pull(self, name, *flags, version="0", rolled="0", pushing="0"):
        sampler = self.samplers.setdefault(name, Sampler(f"sampler-{name}"))
        sampler.rolled += int(rolled)
        request = pull_request(
            sampler.sampler_id,
            have_version=sampler.version,
            have_model_sha256=sampler.sha256,
            have_scalars_version=sampler.scalars,
            have_grants_revision=0 if "anew" in flags else sampler.revision,
            version=int(version),
            leaving="leaving" in flags,
            progress=learner_pb2.SamplerProgress(rows_rolled=sampler.rolled),
            pushing_sequence=int(pushing),
        )
        response = self.coordinator.pull(self.now, request, since=self.now)
        if response is None:
            return "waits"
        if not request.version:
            sampler.version, sampler.sha256 = response.version, response.model_sha256
        sampler.scalars, sampler.revision = response.scalars_version, response.grants_revision
        return "\n".join([_news(response), *map(_grant, response.grants)])

    def publish(self, version, model=None, **scalars):
        values = _values(scalars) or None
        self.coordinator.publish(publication(int(version), model and model.encode()), values)

    def scalars(self, **scalars):
        self.coordinator.set_scalars(_values(scalars))

    def replay(self, *flags, ratio="1", starts="0", window="2", flight="4", updates="0", **ring):
        """Opens a replay; with `kept` it is the ring of the process before."""
        if "kept" not in flags:
            rows = int(ring.get("rows", self.rows))
            capacity = int(ring.get("places", "16")) * rows
            settings = ReplaySettings(capacity=capacity, block_rows=rows, gamma=0.99)
            self.store = ReplayStore(COLUMNS, settings, seed=1)
        store = self.store
        self.limiter = RateLimiter(
            LimiterSettings(float(ratio), int(starts), float(window)),
            steps=store.inserted,
            updates=int(updates),
            can_sample=lambda: store.size > 0,
        )
        self.coordinator.open_replay(self.now, store, self.limiter, fragments_in_flight=int(flight))

    def queue(self, batch="2", stale="2", size=None, most="8"):
        """Opens a queue: `batch` fragments an update, at most `stale` publications old."""
        settings = StalenessSettings(int(stale), int(batch), int(size or batch), int(most))
        self.interval = PublishingInterval(settings)
        self.coordinator.open_queue(self.now, settings, self.interval)

    def take(self, times="1"):
        """What the next update is made on, or that of the last of several."""
        for _ in range(int(times)):
            taken = self.coordinator.take_fragments()
        lines = [
            f"slot {each.key.slot} of sampler {each.key.sampler} from row {each.key.first_row}, "
            f"{each.rows} rows of version {each.version}"
            for each in taken
        ]
        return "\n".join(lines) or "nothing"

    def lags(self):
        lines = [f"{name}: {value:g}" for name, value in self.coordinator.take_lags().items()]
        return "\n".join(lines) or "none"

    def notes(self):
        """The warnings since they were last asked for."""
        found = [note for note in self.coordinator.journal.take() if note.is_warning]
        return "\n".join(f"{note.event}: {note.values}" for note in found) or "none"

    def due(self):
        room = "room" if self.limiter.may_insert() else "no room"
        return f"{self.coordinator.updates_due()} due, {self.limiter.owed()} owed, {room}"

    def updated(self, count):
        self.coordinator.updated(int(count))

    def ended(self):
        ended = self.coordinator.take_ended()
        lines = [
            f"{episode.slot}@{episode.end_row} after {steps} steps" for steps, episode in ended
        ]
        return "\n".join(lines) or "none"

    def metrics(self):
        return "\n".join(
            f"{name}: {value:g}" for name, value in self.coordinator.flow_metrics().items()
        )

    def round(self, envs, steps="2"):
        self.coordinator.open_round(self.now, n_envs=int(envs), n_steps=int(steps))

    def push(self, name, *, seq, grant="0", slots="0", version="1", rows=None, ends="", invalid=""):
        sampler = self.samplers.setdefault(name, Sampler(f"sampler-{name}"))
        count = int(rows or self.rows)
        parts = []
        for slot in map(int, slots.split(",")):
            first = sampler.rows.get(slot, 0)
            sampler.rows[slot] = first + count
            parts.append(Part(slot, first, sampler.base, _ints(ends), _ints(invalid)))
        batch = make_batch(int(version), parts, count)
        request = push_request(sampler.sampler_id, int(seq), int(grant), batch)
        sampler.sent = self.now, request
        return self.look(name)

    def look(self, name):
        """A push that is held looks again; all others get their answer at once."""
        since, request = self.samplers[name].sent
        response = self.coordinator.push(self.now, request, since=since)
        if response is None:
            return "held"
        verdict = learner_pb2.Verdict.Name(response.verdict).removeprefix("VERDICT_")
        return f"{verdict}, newest version {response.newest_version}"

    def resend(self, name):
        """A new attempt of the same push."""
        sampler = self.samplers[name]
        sampler.sent = self.now, sampler.sent[1]
        return self.look(name)

    def again(self, name, seq):
        """The same sequence once more, whatever is in it."""
        sampler = self.samplers[name]
        batch = make_batch(1, [Part(0)], self.rows)
        response = pushed(
            self.coordinator, self.now, push_request(sampler.sampler_id, int(seq), 0, batch)
        )
        return learner_pb2.Verdict.Name(response.verdict).removeprefix("VERDICT_")

    def closed(self):
        batch = self.coordinator.closed_round()
        if batch is None:
            return "not closed"
        places = [
            f"slot {slot:g} of {incarnation:g} from row {row:g}"
            for slot, incarnation, row, _ in batch.columns[OBSERVATION][0]
        ]
        ended = [f"{episode.slot}@{episode.end_row}" for episode in batch.episodes]
        return "\n".join(
            [f"version {batch.version}, {batch.steps} steps, episodes {ended}", *places]
        )

    def evaluate(self, seeds):
        return f"evaluation {self.coordinator.start_evaluation(self.now, _ints(seeds))}"

    def report(self, name, evaluation, version, seeds):
        returns = {seed: float(seed * 10) for seed in _ints(seeds)}
        request = report_request(
            self.samplers[name].sampler_id, int(evaluation), int(version), returns
        )
        return f"{self.coordinator.report(self.now, request).accepted} accepted"

    def finished(self, evaluation):
        episodes = self.coordinator.finished_evaluation(int(evaluation))
        if episodes is None:
            return "not finished"
        return ", ".join(
            f"{episode.seed}: {episode.episode.episode_return:g}" for episode in episodes
        )

    def finish(self, reason):
        self.coordinator.finish(reason)

    def informed(self):
        return "all" if self.coordinator.all_informed(self.now) else "not all"

    def drain(self):
        self.coordinator.drain()

    def describe(self):
        self.coordinator.get_run()

    def ledger(self):
        losses = self.coordinator.ledger.losses()
        lines = [f"{key}: {loss.pushes} pushes, {loss.rows} rows" for key, loss in losses.items()]
        return "\n".join(lines) or "empty"

    def watch(self, after="-1"):
        request = learner_pb2.WatchRunRequest()
        state = self.coordinator.watch(self.now, request, after=int(after))
        phase = learner_pb2.RunPhase.Name(state.phase).removeprefix("RUN_PHASE_")
        lines = [f"{phase}, version {state.version}, {state.environment_steps} steps"]
        lines += [
            f"sampler {status.index}: {status.environment_steps} steps, "
            f"pulled {status.seconds_since_pull:g} s ago"
            for status in state.samplers
        ]
        lines += [
            f"curve at {point.environment_steps}: {point.episode_return:g}" for point in state.curve
        ]
        return "\n".join(lines)


def _values(scalars):
    """Numbers, lists such as `1,2`, and ladders such as `0.4^7`."""
    return {
        key: Ladder(*map(float, value.split("^")))
        if "^" in value
        else [float(number) for number in value.split(",")]
        if "," in value
        else float(value)
        for key, value in scalars.items()
    }


def _ints(text):
    return tuple(int(word) for word in text.split(",") if word)


def _news(response):
    model = "model" if response.HasField("model") else "no model"
    golden = ", golden" if response.HasField("golden") else ""
    scalars = "".join(
        f", {scalar.key}={','.join(f'{value:.3g}' for value in scalar.values)}"
        for scalar in response.scalars
    )
    return f"version {response.version}, {model}{golden}{scalars}"


def _collect(work: grant_pb2.CollectGrant):
    if work.HasField("window"):
        return (
            f"collect with {work.window.fragments} of {work.rows} rows in flight, "
            f"version {work.version} or newer"
        )
    return (
        f"collect {work.finite.fragments} of {work.rows} rows on {work.finite.slots} slots "
        f"with version {work.version}"
    )


def _grant(grant: grant_pb2.Grant):
    match grant.WhichOneof("kind"):
        case "collect":
            text = _collect(grant.collect)
        case "evaluate":
            work = grant.evaluate
            seeds = ",".join(map(str, work.seeds))
            text = f"evaluate version {work.version} for {work.evaluation_id} with seeds {seeds}"
        case "finish":
            text = f"finish: {grant.finish.reason}"
    return f"#{grant.grant_id} {text}"


def _answered(text, scenario):
    """The text with every command's answer below it, indented, in place of what stood there."""
    for line in text.splitlines():
        if line.startswith(INDENT):
            continue
        yield line
        if line and not line.startswith("#"):
            yield from (INDENT + answer for answer in scenario.play(line).splitlines())


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path):
    expected = path.read_text()
    answered = "\n".join(_answered(expected, Scenario())) + "\n"
    if os.environ.get("WISERL_REWRITE"):
        path.write_text(answered)
    else:
        assert answered == expected


def test_scenarios_are_there():
    assert len(SCENARIOS) >= 12
