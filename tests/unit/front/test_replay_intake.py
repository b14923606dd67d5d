"""Pushes into replay: at the limiter's pace, to the exact budget, committed before the answer."""

import pytest
from front_support import (
    COLUMNS,
    Part,
    make_batch,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    pushed,
    register_request,
)

from learner.experience.replay import ReplaySettings, ReplayStore
from learner.rate_limiter import LimiterSettings, RateLimiter
from protos.wiserl.v1 import learner_pb2

A, B = "sampler-a", "sampler-b"
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
