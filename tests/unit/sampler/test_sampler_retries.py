import random

import pytest

from common.statuses import Code, Status
from sampler.refusals import RefusalCount, Refused
from sampler.retries import Action, Backoff, Patience, action, is_silence


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status(Code.UNAVAILABLE, ""), Action.REPEAT),
        (Status(Code.UNAVAILABLE, "", "DRAINING"), Action.REPEAT),
        (Status(Code.DEADLINE_EXCEEDED, ""), Action.REPEAT),
        (Status(Code.INTERNAL, "", "DEFECT"), Action.REPEAT),
        (Status(Code.CANCELLED, "", "SUPERSEDED"), Action.REPEAT),
        (Status(Code.RESOURCE_EXHAUSTED, "", "NO_ROOM", retry_seconds=0.0), Action.WAIT),
        (Status(Code.RESOURCE_EXHAUSTED, "", "TOO_LARGE"), Action.REFUSED),
        (Status(Code.INVALID_ARGUMENT, "", "INVALID_REQUEST"), Action.REFUSED),
        (Status(Code.FAILED_PRECONDITION, "", "RUN_CHANGED"), Action.RESTART),
        (Status(Code.FAILED_PRECONDITION, "", "UNKNOWN_SAMPLER"), Action.REGISTER),
        (Status(Code.FAILED_PRECONDITION, "", "SPEC_MISMATCH"), Action.STOP),
        (Status(Code.FAILED_PRECONDITION, "", "PROTOCOL_MISMATCH"), Action.STOP),
        (Status(Code.FAILED_PRECONDITION, "", "ENVIRONMENT_UNSUPPORTED"), Action.STOP),
        (Status(Code.NOT_FOUND, "", "VERSION_GONE"), Action.WITHOUT_VERSION),
        (Status(Code.UNAUTHENTICATED, ""), Action.REFRESH),
        (Status(Code.PERMISSION_DENIED, ""), Action.STOP),
        (Status(Code.UNIMPLEMENTED, ""), Action.STOP),
    ],
    ids=str,
)
def test_every_status_has_its_action(status, expected):
    assert action(status) == expected


def test_silence_is_what_no_learner_said():
    assert is_silence(Status(Code.UNAVAILABLE, "connection refused"))
    assert is_silence(Status(Code.DEADLINE_EXCEEDED, ""))
    assert not is_silence(Status(Code.UNAVAILABLE, "stopping", "DRAINING"))
    assert not is_silence(Status(Code.INTERNAL, ""))


def test_pauses_double_up_to_a_longest_with_jitter():
    backoff = Backoff(random.Random(1))  # noqa: S311 - pauses are no secret
    pauses = [backoff.pause() for _ in range(8)]
    bounds = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert all(b / 2 <= pause <= b for pause, b in zip(pauses, bounds, strict=True))
    assert len(set(pauses)) == len(pauses)


def test_a_pause_that_is_told_is_kept_or_somewhat_exceeded():
    backoff = Backoff(random.Random(1))  # noqa: S311 - pauses are no secret
    pauses = [backoff.pause_of(2.0) for _ in range(20)]
    assert 2.0 <= min(pauses) < max(pauses) <= 3.0


def test_a_pause_that_is_told_to_be_none_is_one():
    backoff = Backoff(random.Random(1))  # noqa: S311 - pauses are no secret
    assert backoff.pause_of(0.0) >= Backoff.FIRST_SECONDS


def test_patience_grows_with_the_size_and_where_it_was_too_short():
    patience = Patience()
    assert patience.seconds(30, 0) == 30
    assert patience.seconds(30, 64 * 2**20) == 94
    patience.was_too_short()
    patience.was_too_short()
    assert patience.seconds(30, 0) == 120
    patience.sufficed(0.5)
    assert patience.seconds(30, 0) == 120
    patience.sufficed(0.3)
    assert patience.seconds(30, 0) == 60
    for _ in range(9):
        patience.sufficed(0.01)
    assert patience.seconds(30, 0) == 30


def test_patience_has_an_end():
    patience = Patience()
    for _ in range(100):
        patience.was_too_short()
    assert patience.seconds(30, 0) == 30 * Patience.MOST_FACTOR


def test_five_refusals_within_a_minute_are_too_many():
    count = RefusalCount()
    assert [count.add(now) for now in (0, 20, 40, 50)] == [False] * 4
    assert not count.add(60.1)
    assert count.add(80)


def test_only_what_is_too_large_can_be_split():
    assert Refused(Code.RESOURCE_EXHAUSTED, "").too_large
    assert not Refused(Code.INVALID_ARGUMENT, "").too_large
