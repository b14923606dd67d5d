"""Samplers and a learner do whatever they like, in any order, and processes come and go.

Promises: every acknowledged row is in the store once and no other row is; steps never exceed the
budget, in which each of them counts; there is always somebody who can go on.
"""

import collections
import copy
import dataclasses

import numpy as np
from front_support import (
    COLUMNS,
    OBSERVATION,
    VALID,
    Part,
    make_batch,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    register_request,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from learner.experience.replay import ReplaySettings, ReplayStore
from learner.front.refusals import Refusal
from learner.ledger import LossReason
from learner.rate_limiter import LimiterSettings, RateLimiter
from learner.totals import MemoryHeader, SamplerTotals
from protos.wiserl.v1 import learner_pb2

ROWS, BUDGET, FLIGHT = 2, 40, 6
NAMES = ["sampler-a", "sampler-b", "sampler-c"]

names = st.sampled_from(NAMES)


class Committed(MemoryHeader):
    """What a process would find whose forerunner was killed: the totals as last committed."""

    def __init__(self, totals=None):
        super().__init__(totals)
        self.committed = copy.deepcopy(self.totals)

    def commit(self):
        self.committed = copy.deepcopy(self.totals)


class Replay(RuleBasedStateMachine):
    """The coordinator, and a model of what samplers were told and did."""

    @initialize(
        ratio=st.sampled_from([0.25, 1.0, 3.0]),
        window=st.sampled_from([1.0, 2.5, 20.0]),
        starts=st.integers(0, 10),
    )
    def begin(self, ratio, window, starts):
        self.store = ReplayStore(
            COLUMNS, ReplaySettings(capacity=400, block_rows=ROWS, gamma=0.9), seed=1
        )
        self.now, self.version = 0.0, 0
        self.limits = LimiterSettings(ratio, starts, window)
        self.header = Committed()
        self.sent = {}
        self.sequences = collections.Counter()
        self.places = collections.Counter()
        self.accepted = collections.Counter()
        self.grants = {}
        self.open(updates=0)

    def open(self, updates):
        self.coordinator = make_coordinator(total_steps=BUDGET, rows=ROWS, header=self.header)
        self.bases = {}
        self.version += 1
        self.coordinator.publish(publication(self.version))
        self.limiter = RateLimiter(
            self.limits,
            steps=self.store.inserted,
            updates=updates,
            can_sample=lambda: self.store.size > 0,
        )
        self.coordinator.open_replay(self.now, self.store, self.limiter, fragments_in_flight=FLIGHT)

    @rule(lost=st.integers(0, 30))
    def kill(self, lost):
        """The store is in files; the updates are of a checkpoint."""
        totals = dataclasses.replace(
            self.header.committed, restarts=self.header.committed.restarts + 1
        )
        self.header = Committed(totals)
        self.sent.clear()
        self.open(updates=max(0, self.limiter.updates - lost))

    @rule(name=names, slots=st.integers(1, 4))
    def register(self, name, slots):
        response = self.coordinator.register(self.now, register_request(name, slots))
        # What was in flight is over; the sampler counts on from whatever it used.
        self.sent.pop(name, None)
        self.bases[name] = (response.index, response.incarnation_base, slots)
        self.sequences[name] = max(self.sequences[name], response.last_sequence)

    @rule(name=names, leaves=st.integers(0, 9).map(lambda n: n == 0))
    def pull(self, name, leaves):
        request = pull_request(name, wait_milliseconds=0, leaving=leaves)
        try:
            response = self.coordinator.pull(self.now, request, since=self.now)
        except Refusal:
            return
        for grant in response.grants:
            assert self.grants.setdefault(grant.grant_id, name) == name
            assert grant.collect.window.fragments >= 1

    @rule(
        name=names,
        count=st.integers(1, 4),
        invalid=st.sampled_from([(), (0,), (0, 1)]),
        gap=st.integers(0, 1),
    )
    def push(self, name, count, invalid, gap):
        if name not in self.bases or name in self.sent:
            return
        index, base, slots = self.bases[name]
        parts = []
        for slot in range(min(count, slots)):
            place = (index, slot, base)
            parts.append(Part(slot, self.places[place], base, invalid=invalid))
            self.places[place] += ROWS
        self.sequences[name] += 1 + gap
        batch = make_batch(self.version, parts, ROWS)
        request = push_request(name, self.sequences[name], 1, batch)
        self.sent[name] = (self.now, request)
        self.look(name)

    @rule(name=names)
    def look(self, name):
        """A push that is held looks again."""
        if name not in self.sent:
            return
        since, request = self.sent[name]
        try:
            response = self.coordinator.push(self.now, request, since=since)
        except Refusal as refusal:
            if refusal.retry_seconds is None:
                del self.sent[name]
            return
        if response is None:
            return
        del self.sent[name]
        assert response.verdict in {learner_pb2.VERDICT_ACCEPTED, learner_pb2.VERDICT_ENDED}
        if response.verdict == learner_pb2.VERDICT_ACCEPTED:
            index = self.bases[name][0]
            self.accepted.update(
                (index, part.slot, part.incarnation, part.first_row + t)
                for part in request.batch.slots
                for t in range(ROWS)
            )
            again = self.coordinator.push(self.now, request, since=self.now)
            assert again.verdict == learner_pb2.VERDICT_DUPLICATE

    @rule(name=names)
    def resend(self, name):
        """A later attempt takes the place of one that is held."""
        if name in self.sent:
            self.sent[name] = (self.now, self.sent[name][1])
            self.look(name)

    @rule(share=st.floats(0, 1))
    def update(self, share):
        self.coordinator.updated(round(share * self.coordinator.updates_due()))

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0, 11.0]))
    def wait(self, seconds):
        self.now += seconds
        self.coordinator.tick(self.now)

    @invariant()
    def somebody_can_go_on(self):
        """Without end one sampler is enough: who is alone is let in, or the learner has work."""
        if not self.coordinator.budget_met:
            assert self.coordinator.updates_due() or self.limiter.may_insert()

    @invariant()
    def acknowledged_rows_are_there_once(self):
        dump = self.store.dump()
        rows = collections.Counter(map(tuple, dump.keys))
        assert rows == self.accepted
        steps = int(dump.columns[VALID].sum())
        assert steps == self.store.size == self.coordinator.environment_steps <= BUDGET
        # Observations tell slot, incarnation and row: each lies where its key says.
        told = dump.columns[OBSERVATION][:, :3].astype(int).tolist()
        assert told == [
            # float32, as observations are: 2^44 + 2^20 has one digit too many for it
            [key.slot, int(np.float32(key.incarnation)), key.first_row]
            for key in dump.keys
        ]

    @invariant()
    def what_was_answered_is_committed(self):
        totals = copy.deepcopy(self.header.totals)
        for name in totals.samplers.keys() - self.header.committed.samplers.keys():
            # It registered, and has had no answer to a push yet.
            assert totals.samplers.pop(name) == SamplerTotals()
        assert totals == self.header.committed

    @invariant()
    def the_ledger_has_the_rest(self):
        beyond = self.coordinator.ledger[LossReason.BEYOND_BUDGET].rows
        assert (beyond > 0) <= self.coordinator.budget_met

    @invariant()
    def credits_are_all_dealt(self):
        grants = [
            grant.collect.window.fragments
            for session in self.coordinator._sessions
            for grant in session.grants.values()
        ]
        if self.coordinator.budget_met:
            assert grants == []
        elif self.coordinator.samplers:
            assert sum(grants) == FLIGHT


TestReplay = Replay.TestCase
TestReplay.settings = settings(max_examples=40, stateful_step_count=30)
