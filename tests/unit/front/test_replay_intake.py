"""Pushes into replay: at the limiter's pace, to the exact budget, committed before the answer."""

import collections
import contextlib
import copy
import dataclasses

import numpy as np
import pytest
from front_malformed import MALFORMED
from front_support import (
    COLUMNS,
    OBSERVATION,
    VALID,
    A,
    B,
    Part,
    make_batch,
    make_columns,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    pushed,
    register_request,
)

from common.errors import Reason
from common.statuses import Code
from learner.experience.on_policy import FragmentKey
from learner.experience.replay import ReplaySettings, ReplayStore
from learner.front import sessions
from learner.front.coordinator import Changes
from learner.front.refusals import Refusal
from learner.ledger import LossReason
from learner.rate_limiter import LimiterSettings, RateLimiter
from learner.totals import MemoryHeader, RingCursor, SamplerTotals, Totals
from protos.wiserl.v1 import learner_pb2

ACCEPTED, ENDED = learner_pb2.VERDICT_ACCEPTED, learner_pb2.VERDICT_ENDED


def store_of(*, places=64, rows=2, **more):
    settings = ReplaySettings(capacity=places * rows, block_rows=rows, gamma=0.99)
    return ReplayStore(COLUMNS, settings, seed=1, **more)


def flowing(*, ratio=1.0, learning_starts=0, window=4.0, in_flight=8, store=None, **settings):
    """A coordinator of a replay with a published version and sampler a of two slots."""
    coordinator = make_coordinator(**settings)
    coordinator.register(0.0, register_request(A))
    coordinator.publish(publication(1))
    store = store or store_of()
    limiter = RateLimiter(
        LimiterSettings(ratio, learning_starts, window), can_sample=lambda: store.size > 0
    )
    coordinator.open_replay(0.0, store, limiter, fragments_in_flight=in_flight)
    return coordinator, store, limiter


def push_of(sequence, *parts, sampler=A, grant=1, version=1):
    return push_request(sampler, sequence, grant, make_batch(version, list(parts)))


def test_rows_flow_and_updates_become_due():
    coordinator, store, limiter = flowing()
    (grant,) = coordinator.pull(0.0, pull_request(A), since=0.0).grants
    assert grant.collect.window.fragments == 8
    assert grant.collect.or_newer
    assert grant.collect.rows == 2
    milestones = coordinator.milestones
    answer = pushed(coordinator, 0.0, push_of(1, Part(0, ends=(1,)), Part(1, invalid=(0,))))
    assert answer.verdict == ACCEPTED
    assert coordinator.milestones == milestones + 1
    assert (store.size, limiter.steps, coordinator.environment_steps) == (3, 3, 3)
    assert coordinator.updates_due() == 3 + 4
    coordinator.updated(7)
    assert coordinator.updates_due() == 0
    ((steps, episode),) = coordinator.take_ended()
    assert (steps, episode.slot, episode.end_row) == (3, 0, 1)
    assert coordinator.take_ended() == []


def test_a_store_of_another_block_is_refused():
    with pytest.raises(ValueError, match="publish"):
        make_coordinator().open_replay(
            0.0, store_of(), RateLimiter(LimiterSettings(1, 0, 1)), fragments_in_flight=1
        )


class Recording(MemoryHeader):
    """Keeps a copy of the totals of every commit: what a process would find that comes after."""

    def __init__(self, totals=None):
        super().__init__(totals)
        self.commits = []

    def commit(self):
        self.commits.append(copy.deepcopy(self.totals))


def rows_of(store):
    """The rows of a store, as many as there are of each."""
    return collections.Counter(store.dump().keys)


def fragment_rows(slot, first, rows=2):
    return collections.Counter(FragmentKey(0, slot, 0, first + t) for t in range(rows))


def test_blocks_that_go_are_not_named_while_they_are_written_over(tmp_path):
    """And the commit that names the new ones has the sequence: rows and answer, or neither."""
    header = Recording()
    coordinator, store, _ = flowing(
        window=100, header=header, store=store_of(places=2, folder=tmp_path)
    )
    header.commits.clear()
    pushed(coordinator, 0.0, push_of(1, Part(0), Part(1)))
    (first,) = header.commits
    assert first.ring == RingCursor(2, 2)
    assert (first.environment_steps, first.samplers[A]) == (4, SamplerTotals(1, 4))
    header.commits.clear()
    pushed(coordinator, 0.0, push_of(2, Part(1, 2)))
    before, after = header.commits
    assert before.ring == RingCursor(2, 1)
    assert (before.environment_steps, before.samplers[A].sequence) == (4, 1)
    assert after.ring == RingCursor(3, 2)
    assert (after.environment_steps, after.samplers[A]) == (6, SamplerTotals(2, 6))
    assert rows_of(store) == fragment_rows(1, 0) + fragment_rows(1, 2)
    store.close()


def test_the_next_process_has_the_rows_once(tmp_path):
    header = Recording()
    coordinator, store, _ = flowing(header=header, store=store_of(folder=tmp_path), window=99)
    for sequence in range(1, 6):
        pushed(coordinator, 0.0, push_of(sequence, Part(0, 2 * sequence - 2)))
    acknowledged = rows_of(store)
    store.close()
    totals = dataclasses.replace(header.commits[-1], restarts=1)
    store = store_of(folder=tmp_path, cursor=totals.ring)
    coordinator, *_ = flowing(header=MemoryHeader(totals), store=store, window=99)
    assert rows_of(store) == acknowledged
    again = pushed(coordinator, 0.0, push_of(5, Part(0, 8)))
    assert again.verdict == learner_pb2.VERDICT_DUPLICATE
    assert rows_of(store) == acknowledged
    assert coordinator.environment_steps == 10
    store.close()


@pytest.mark.parametrize("answer", ["accepted", "refused", "ended", "unknown"])
def test_every_final_answer_is_committed_before_it_is_given(answer):
    header = Recording()
    coordinator, *_ = flowing(header=header, window=99)
    header.commits.clear()
    if answer == "ended":
        coordinator.finish("done")
        header.commits.clear()
    sampler = B if answer == "unknown" else A
    slot = 5 if answer == "refused" else 0
    with contextlib.suppress(Refusal):
        pushed(coordinator, 0.0, push_of(3, Part(slot), sampler=sampler))
    (committed,) = header.commits
    assert committed == header.totals
    lost = {reason.value: (loss.pushes, loss.rows) for reason, loss in committed.losses.items()}
    assert (
        lost
        == {
            "accepted": {"sequence_gap": (2, 0)},
            "refused": {"refused": (1, 2), "sequence_gap": (2, 0)},
            "ended": {"ended": (1, 2), "sequence_gap": (2, 0)},
            "unknown": {"unknown_sampler": (1, 2)},
        }[answer]
    )


def test_a_push_that_is_held_or_sent_away_commits_nothing():
    header = Recording()
    coordinator, store, _ = flowing(header=header, window=1)
    pushed(coordinator, 0.0, push_of(1, Part(0)))
    header.commits.clear()
    totals, rows = copy.deepcopy(header.totals), rows_of(store)
    request = push_of(2, Part(0, 2))
    assert coordinator.push(1.0, request, since=1.0) is None
    with pytest.raises(Refusal) as caught:
        coordinator.push(11.0, request, since=1.0)
    assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, Reason.NO_ROOM)
    assert caught.value.retry_seconds > 0
    assert (header.totals, rows_of(store), header.commits) == (totals, rows, [])


@pytest.mark.parametrize("name", MALFORMED)
def test_a_refused_push_leaves_nothing_behind(name):
    spoil, field = MALFORMED[name]
    coordinator, store, limiter = flowing(window=99)
    request = push_of(1, Part(0, ends=(1,)), Part(1))
    spoil(request)
    before = coordinator._sessions.get(A).lives.copy()
    with pytest.raises(Refusal) as caught:
        pushed(coordinator, 0.0, request)
    assert caught.value.field.startswith(field.split("[")[0])
    assert (store.size, limiter.steps, coordinator.environment_steps) == (0, 0, 0)
    assert coordinator._sessions.get(A).lives == before
    assert coordinator.take_ended() == []


def test_what_is_beyond_the_budget_is_no_step_and_has_no_end():
    """Later slots first; what ended there did not end, and its last observation is not kept."""
    coordinator, store, limiter = flowing(window=99, total_steps=5)
    pushed(coordinator, 0.0, push_of(1, Part(0)))
    request = push_of(2, Part(1, ends=(0, 1)), Part(0, 2, ends=(0, 1)))
    finals = request.batch.final_observations
    finals.rows.extend([0, 1, 0, 1])
    finals.slots.extend([0, 0, 1, 1])
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    finals.columns.extend(make_columns({OBSERVATION: values}, COLUMNS[:1]))
    assert pushed(coordinator, 0.0, request).verdict == ACCEPTED
    assert (store.size, store.inserted, limiter.steps) == (5, 5, 5)
    assert coordinator.environment_steps == 5
    assert coordinator.budget_met
    assert [(steps, e.slot, e.end_row) for steps, e in coordinator.take_ended()] == [
        (4, 1, 0),
        (4, 0, 2),
        (5, 1, 1),
    ]
    assert coordinator.ledger[LossReason.BEYOND_BUDGET].rows == 1
    assert store.dump().columns[VALID].sum() == 5
    assert pushed(coordinator, 0.0, push_of(3, Part(0, 4))).verdict == ENDED


def test_rows_that_came_in_are_milestones_and_pushes_that_are_held_are_none():
    """The first ones too, which no update follows: somebody may want to see how far it is."""
    coordinator, *_ = flowing(window=1, learning_starts=3)
    before = coordinator.milestones
    for sequence in range(1, 3):
        pushed(coordinator, 0.0, push_of(sequence, Part(0, 2 * sequence)))
    assert coordinator.milestones == before + 2
    assert pushed(coordinator, 0.0, push_of(3, Part(0, 6))) is None
    assert coordinator.milestones == before + 2


def test_whom_the_changes_matter_to():
    coordinator, *_ = flowing(window=1)
    coordinator.take_changes()
    pushed(coordinator, 0.0, push_of(1, Part(0)))
    assert not coordinator.take_changes().pushes
    coordinator.updated(1)
    assert not coordinator.take_changes().pushes
    coordinator.updated(1)
    assert coordinator.take_changes() == Changes(everyone=False, samplers=frozenset(), pushes=True)
    coordinator.updated(1)
    assert not coordinator.take_changes().pushes


def test_without_a_replay_nothing_is_due():
    coordinator = make_coordinator()
    assert coordinator.updates_due() == 0
    assert coordinator.take_ended() == []
    assert coordinator.flow_metrics() == {}
    with pytest.raises(ValueError, match="open_replay"):
        coordinator.updated(1)


def test_samplers_that_are_gone_are_forgotten_in_time(monkeypatch):
    """Those of the process before as well, whose time begins with this one."""
    totals = Totals(samplers={"sampler-old": SamplerTotals(7, 14)})
    header = MemoryHeader(totals)
    coordinator, *_ = flowing(header=header)
    coordinator.tick(1.0)
    coordinator.pull(5.0, pull_request(A, leaving=True), since=5.0)
    coordinator.tick(901.0)
    assert set(totals.samplers) == {"sampler-old", A}
    coordinator.tick(902.0)
    assert set(totals.samplers) == {A}
    coordinator.tick(906.0)
    assert totals.samplers == {}
    monkeypatch.setattr(sessions, "MAX_SAMPLERS", 3)
    for number in range(5):
        name = f"sampler-{number}"
        coordinator.register(1000.0, register_request(name))
        coordinator.pull(1000.0, pull_request(name, leaving=number != 1), since=1000.0)
    # Those gone longest make room; who is there stays.
    assert set(totals.samplers) == {"sampler-1", "sampler-3", "sampler-4"}
