"""Refusals on the wire, and where the server may listen."""

import math

import pytest
from front_support import identity, make_coordinator
from google.rpc import error_details_pb2

from common.errors import InvalidFieldError, Reason
from common.statuses import Code
from learner.front import statuses
from learner.front.journal import MAX_NOTES, Journal
from learner.front.refusals import Refusal
from learner.front.security import AddressError, ServerSecurity
from learner.front.server import FrontServer
from learner.front.settings import FrontSettings, Limits
from learner.ledger import Ledger, LossReason


def details(refusal):
    """The details of a refusal's status by their type."""
    found = {}
    for packed in statuses.to_status(refusal).details:
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
        ):
            if packed.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(packed.value)
    return found


def test_a_reason_always_a_field_where_there_is_one():
    found = details(Refusal.invalid(InvalidFieldError("rows", "3 is wrong"), "batch"))
    assert found[error_details_pb2.ErrorInfo].reason == "INVALID_REQUEST"
    assert found[error_details_pb2.ErrorInfo].domain == "wiserl"
    (violation,) = found[error_details_pb2.BadRequest].field_violations
    assert (violation.field, violation.description) == ("batch.rows", "3 is wrong")
    assert list(details(Refusal.draining())) == [error_details_pb2.ErrorInfo]


def test_when_to_retry():
    refusal = Refusal(Code.RESOURCE_EXHAUSTED, Reason.NO_ROOM, "full", retry_seconds=1.5)
    retry = details(refusal)[error_details_pb2.RetryInfo]
    assert math.isclose(retry.retry_delay.ToTimedelta().total_seconds(), 1.5)


def test_long_texts_stay_within_the_trailers():
    status = statuses.to_status(Refusal.invalid(InvalidFieldError("f" * 9000, "x" * 9000)))
    assert status.ByteSize() < 4096
    assert status.message.endswith("...")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0", "127.9.9.9:50051"])
def test_loopback_needs_no_permission(address):
    ServerSecurity(insecure=False).check_address(address)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.168.0.1:0", "learner:0", ":0"])
def test_other_addresses_need_the_flag(address):
    with pytest.raises(AddressError, match="--insecure"):
        ServerSecurity(insecure=False).check_address(address)
    with pytest.raises(AddressError, match="--insecure"):
        FrontServer(make_coordinator(), address)
    ServerSecurity(insecure=True).check_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost:http", "", "127.0.0.1:70000"])
def test_an_address_needs_a_port(address):
    with pytest.raises(AddressError, match="port"):
        ServerSecurity(insecure=True).check_address(address)


@pytest.mark.parametrize(
    "settings",
    [
        {"total_steps": 0},
        {"total_steps": 1, "expect_samplers": 0},
        {"total_steps": 1, "seed": -1},
        {"total_steps": 1, "seed": 1 << 64},
    ],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(InvalidFieldError):
        FrontSettings(**settings)


@pytest.mark.parametrize(
    "limits", [{"max_slots": 0}, {"wait_milliseconds": 6000, "lease_milliseconds": 6000}]
)
def test_limits_that_cannot_be(limits):
    with pytest.raises(InvalidFieldError):
        Limits(**limits)


def test_the_ledger_adds_up_by_reason():
    ledger = Ledger()
    ledger.add(LossReason.STALE, pushes=1, rows=10)
    ledger.add(LossReason.STALE, pushes=1, rows=5)
    ledger.add(LossReason.SEQUENCE_GAP, pushes=3)
    assert ledger.metrics() == {
        "ledger/stale_pushes": 2,
        "ledger/stale_rows": 15,
        "ledger/sequence_gap_pushes": 3,
        "ledger/sequence_gap_rows": 0,
    }
    assert ledger[LossReason.ENDED].pushes == 0


def test_the_journal_keeps_the_newest():
    journal = Journal()
    for number in range(MAX_NOTES + 1):
        journal.note("event", number=number)
    assert journal.take()[0].values == {"number": 1}


def test_the_identity_tells_the_limits():
    response = identity().to_proto(Limits(max_slots=7))
    assert (response.protocol_version, response.limits.max_slots) == (1, 7)
    assert response.limits.max_message_bytes == 64 << 20
