"""Samplers do whatever they like, in any order: the promises hold, and a healthy one finishes.

Promises: a push counts once for each (sampler, sequence); every accepted row is in a closed round
or in the ledger; steps never exceed the budget; grant ids and incarnations are never used twice.
"""

import collections

from front_support import (
    OBSERVATION,
    VALID,
    Part,
    make_batch,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    pushed,
    register_request,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from learner.front.refusals import Refusal
from learner.ledger import LossReason
from protos.wiserl.v1 import learner_pb2

ROWS, ENVS, BUDGET = 2, 5, 60
NAMES = ["sampler-a", "sampler-b", "sampler-c"]

names = st.sampled_from(NAMES)


class Front(RuleBasedStateMachine):
    """The coordinator, and a model of what samplers were told and did."""

    def __init__(self):
        super().__init__()
        self.coordinator = make_coordinator(total_steps=BUDGET, rows=ROWS)
        self.now = 0.0
        self.version = 0
        self.sequences = collections.Counter()
        self.bases = {}
        self.used_bases = set()
        self.rows = collections.Counter()
        self.rolled = collections.Counter()
        self.grants = {}
        self.contents = {}
        self.accepted = set()
        self.closed_fragments = 0
        self.accepted_fragments = 0
        self.steps = 0

    @initialize()
    def begin(self):
        self.open_round()

    def open_round(self):
        self.version += 1
        self.coordinator.publish(publication(self.version))
        self.coordinator.open_round(self.now, n_envs=ENVS, n_steps=ROWS)

    @rule(name=names, slots=st.integers(1, 4))
    def register(self, name, slots):
        previous = self.bases.get(name, (None, False))
        response = self.coordinator.register(self.now, register_request(name, slots))
        key = (response.index, response.incarnation_base)
        if key != previous[0] or previous[1]:
            assert key not in self.used_bases
        self.used_bases.add(key)
        self.bases[name] = (key, False)
        self.grants[name] = []
        self.sequences[name] = max(self.sequences[name], response.last_sequence)
        self.rolled[name] = 0

    @rule(name=names, moves=st.booleans(), leaves=st.integers(0, 9).map(lambda n: n == 0))
    def pull(self, name, moves, leaves):
        self.rolled[name] += moves
        request = pull_request(
            name,
            wait_milliseconds=0,
            leaving=leaves,
            progress=learner_pb2.SamplerProgress(rows_rolled=self.rolled[name]),
        )
        try:
            response = self.coordinator.pull(self.now, request, since=self.now)
        except Refusal:
            self.grants[name] = []
            return
        self.bases[name] = (self.bases[name][0], True)
        assert response.version in {0, self.version} if leaves else response.version == self.version
        self.grants[name] = list(response.grants)
        for grant in response.grants:
            content = (name, grant.SerializeToString())
            assert self.contents.setdefault(grant.grant_id, content) == content

    @rule(name=names, which=st.integers(0, 3), slot=st.integers(0, 3), gap=st.integers(0, 1))
    def push(self, name, which, slot, gap):
        grants = self.grants.get(name, [])
        if not grants:
            return
        grant = grants[which % len(grants)]
        self.send(name, grant, slot % grant.collect.finite.slots, gap)

    def send(self, name, grant, slot, gap=0):
        index, base = self.bases[name][0]
        place = (index, slot, base)
        part = Part(slot, self.rows[place], base)
        self.rows[place] += ROWS
        self.sequences[name] += 1 + gap
        request = push_request(
            name,
            self.sequences[name],
            grant.grant_id,
            make_batch(grant.collect.version, [part], ROWS),
        )
        verdict = self.answer(request)
        if verdict == learner_pb2.VERDICT_ACCEPTED:
            assert (name, request.sequence) not in self.accepted
            self.accepted.add((name, request.sequence))
            self.accepted_fragments += 1
            again = self.answer(request)
            assert again == learner_pb2.VERDICT_DUPLICATE
        self.take_closed()

    def answer(self, request):
        try:
            return pushed(self.coordinator, self.now, request).verdict
        except Refusal:
            return None

    def take_closed(self):
        batch = self.coordinator.closed_round()
        if batch is None:
            return
        assert batch.columns[VALID].shape == (ROWS, ENVS)
        fragments = {tuple(entry) for entry in batch.columns[OBSERVATION][0].tolist()}
        self.closed_fragments += ENVS
        self.steps += batch.steps
        assert batch.steps == batch.columns[VALID].sum() > 0
        # The observation does not tell the sampler's index; two may share the rest of the key.
        assert len(fragments) <= ENVS
        if self.coordinator.environment_steps < BUDGET:
            self.open_round()

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]))
    def wait(self, seconds):
        self.now += seconds
        self.coordinator.tick(self.now)

    @precondition(lambda self: self.coordinator.environment_steps < BUDGET)
    @rule(slots=st.integers(1, 6))
    def a_healthy_sampler_finishes_the_round(self, slots):
        """The others fall silent; one comes, rolls what it is told to, and the round closes."""
        before = self.closed_fragments
        name = "sampler-healthy"
        self.now += 60
        self.coordinator.tick(self.now)
        self.register(name, slots)
        self.pull(name, moves=True, leaves=False)
        for grant in list(self.grants[name]):
            finite = grant.collect.finite
            for fragment in range(finite.fragments):
                self.send(name, grant, fragment % finite.slots)
        assert self.closed_fragments == before + ENVS
        self.pull(name, moves=True, leaves=True)

    @invariant()
    def everything_accepted_is_accounted_for(self):
        current = self.coordinator._dealer.round
        resident = current.delivered if current else 0
        assert self.accepted_fragments == self.closed_fragments + resident
        beyond = self.coordinator.ledger[LossReason.BEYOND_BUDGET].rows
        assert self.steps + beyond == self.closed_fragments * ROWS
        assert self.coordinator.environment_steps == self.steps <= BUDGET

    @invariant()
    def indices_are_distinct(self):
        indices = [session.index for session in self.coordinator._sessions]
        assert len(set(indices)) == len(indices)


TestFront = Front.TestCase
TestFront.settings = settings(max_examples=60, stateful_step_count=40)
