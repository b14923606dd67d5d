"""The quota of a sampler: by hand, and whatever it sends."""

import pytest
from front_support import (
    A,
    Part,
    make_batch,
    make_coordinator,
    publication,
    push_request,
    pushed,
)
from front_support import register_request as registration
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidFieldError, Reason
from common.statuses import Code
from learner.front.quota import BURST_SECONDS, ByteQuota
from learner.front.refusals import Refusal
from learner.front.settings import Limits
from protos.wiserl.v1 import learner_pb2
from wiserl.flags import ServeFlags


def test_a_message_may_overdraw_and_the_next_waits_until_that_flowed_in():
    quota = ByteQuota(100)
    assert quota.charge(0.0, 60) == 0.0
    assert quota.charge(0.0, 240) == 0.0  # 40 are left: 200 too much
    assert quota.charge(0.0, 1) == 2.0
    assert quota.charge(1.5, 1) == 0.5
    assert quota.charge(2.0, 30) == 0.0
    assert quota.charge(2.0, 1) == pytest.approx(0.3)
    # A pause brings no more than a second's worth.
    assert quota.charge(1000.0, 100) == 0.0
    assert quota.charge(1000.0, 50) == 0.0
    assert quota.charge(1000.0, 50) == 0.5


def test_time_that_stands_still_or_falls_brings_nothing():
    quota = ByteQuota(10)
    assert quota.charge(5.0, 20) == 0.0
    assert quota.charge(4.0, 1) == 1.0
    assert quota.charge(4.0, 1) == 1.0


messages = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5000)), min_size=1, max_size=60)


@given(st.integers(1, 10_000), messages)
def test_what_is_let_in_is_bounded_and_nobody_waits_for_nothing(rate, sent):
    """In any time from the start: the rate, a burst and one message; and a wait suffices."""
    quota, now, taken = ByteQuota(rate), 0.0, 0
    for pause, size in sent:
        now += pause
        early = quota.charge(now, size)
        if early:
            # Not before it was told, and then for certain.
            assert quota.charge(now + early / 2, size) > 0
            now += early + 1e-6
            assert quota.charge(now, size) == 0.0
        taken += size
        assert taken <= rate * (now + BURST_SECONDS) * (1 + 1e-9) + size


def rolling(rate):
    """A coordinator of windows in which a sampler has registered."""
    coordinator = make_coordinator(limits=Limits(bytes_per_second=rate))
    coordinator.register(0.0, registration(A))
    coordinator.publish(publication(1))
    coordinator.open_round(0.0, n_envs=2, n_steps=2)
    (grant,) = coordinator.pull(
        0.0, learner_pb2.PullWeightsRequest(run_id="run-1", sampler_id=A), since=0.0
    ).grants
    return coordinator, grant.grant_id


def push_of(grant, sequence, slot):
    return push_request(A, sequence, grant, make_batch(1, [Part(slot)]))


def test_a_push_that_comes_too_early_counts_nothing_and_is_taken_later():
    coordinator, grant = rolling(100)
    first, second = push_of(grant, 1, 0), push_of(grant, 2, 1)
    accepted = coordinator.push(0.0, first, since=0.0, received_bytes=300)
    assert accepted.verdict == learner_pb2.VERDICT_ACCEPTED
    for at, left in ((0.0, 2.0), (1.0, 1.0)):
        with pytest.raises(Refusal) as caught:
            coordinator.push(at, second, since=at, received_bytes=300)
        refusal = caught.value
        assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, Reason.OVER_QUOTA)
        assert refusal.retry_seconds == left
        assert "--sampler-bytes-per-second" in refusal.message
    # No final answer: the ledger knows nothing of it, and the same sequence is accepted.
    assert not any(coordinator.ledger.metrics().values())
    accepted = coordinator.push(2.0, second, since=2.0, received_bytes=300)
    assert accepted.verdict == learner_pb2.VERDICT_ACCEPTED
    assert coordinator.closed_round().steps == 4


def test_a_new_registration_pays_no_debts():
    coordinator, grant = rolling(100)
    coordinator.push(0.0, push_of(grant, 1, 0), since=0.0, received_bytes=300)
    coordinator.register(0.5, registration(A))
    with pytest.raises(Refusal) as caught:
        coordinator.push(0.5, push_of(grant, 2, 1), since=0.5, received_bytes=300)
    assert caught.value.retry_seconds == 1.5


def test_reports_count_too():
    coordinator, _ = rolling(100)
    report = learner_pb2.ReportEpisodesRequest(run_id="run-1", sampler_id=A)
    coordinator.report(0.0, report, received_bytes=200)
    with pytest.raises(Refusal, match="bytes a second"):
        coordinator.report(0.0, report, received_bytes=200)


def test_without_a_network_or_a_quota_nothing_is_charged():
    coordinator, grant = rolling(1)
    for sequence, slot in ((1, 0), (2, 1)):
        pushed(coordinator, 0.0, push_of(grant, sequence, slot))
    coordinator, grant = rolling(None)
    for sequence, slot in ((1, 0), (2, 1)):
        coordinator.push(0.0, push_of(grant, sequence, slot), since=0.0, received_bytes=1 << 40)


def test_the_flag():
    assert ServeFlags().limits().bytes_per_second == 256 << 20
    assert ServeFlags(sampler_bytes_per_second=0).limits().bytes_per_second is None
    with pytest.raises(InvalidFieldError, match="0 sets no limit"):
        ServeFlags(sampler_bytes_per_second=-1)
    with pytest.raises(InvalidFieldError, match="bytes_per_second"):
        Limits(bytes_per_second=0)
