import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from common import statuses
from common.statuses import Code, Status, Violation


class CallError(grpc.RpcError):
    """A failed call as gRPC raises it: an error that is also a call."""

    def __init__(self, code, details, metadata):
        self._answers = code, details, metadata

    def code(self):
        return self._answers[0]

    def details(self):
        return self._answers[1]

    def trailing_metadata(self):
        return self._answers[2]


def packed(*details):
    found = []
    for detail in details:
        found.append(any_pb2.Any())
        found[-1].Pack(detail)
    return found


def error_with(*details, code=grpc.StatusCode.INVALID_ARGUMENT, rich_code=3):
    rich = status_pb2.Status(code=rich_code, message="no", details=packed(*details))
    return CallError(code, "no", [("grpc-status-details-bin", rich.SerializeToString())])


def test_a_status_without_details():
    error = CallError(grpc.StatusCode.UNAVAILABLE, "connection refused", None)
    assert statuses.read(error) == Status(Code.UNAVAILABLE, "connection refused")


def test_every_detail_is_read():
    violation = error_details_pb2.BadRequest.FieldViolation(field="batch", description="is empty")
    error = error_with(
        error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain="wiserl"),
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000)),
    )
    status = statuses.read(error)
    assert status == Status(
        Code.INVALID_ARGUMENT, "no", "INVALID_REQUEST", (Violation("batch", "is empty"),), 0.25
    )
    assert str(status) == "INVALID_ARGUMENT INVALID_REQUEST: no; batch: is empty"


def test_a_reason_of_another_domain_is_none_of_ours():
    info = error_details_pb2.ErrorInfo(reason="RUN_CHANGED", domain="proxy.example")
    assert statuses.read(error_with(info)).reason == ""


@pytest.mark.parametrize(
    "error",
    [
        error_with(rich_code=14),
        CallError(grpc.StatusCode.INVALID_ARGUMENT, "no", [("grpc-status-details-bin", b"\xff")]),
    ],
    ids=["another code", "no message"],
)
def test_details_that_do_not_fit_are_left_out(error):
    assert statuses.read(error) == Status(Code.INVALID_ARGUMENT, "no")


def test_codes_are_those_of_grpc():
    assert {code.name: code.value for code in Code} == {
        code.name: code.value[0] for code in grpc.StatusCode
    }
