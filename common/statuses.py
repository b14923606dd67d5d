"""What a failed call says: the status code and the google.rpc details that travel with it."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from common.errors import ERROR_DOMAIN

if TYPE_CHECKING:
    import grpc
    from google.rpc import status_pb2


class Code(enum.IntEnum):
    """The numbers of `google.rpc.Code`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclasses.dataclass(frozen=True)
class Violation:
    """A field of the request that cannot be as it is, and why."""

    field: str
    description: str


@dataclasses.dataclass(frozen=True)
class Status:
    """The status of a failed call.

    Attributes:
        code: The status code.
        message: The value, the constraint and the remedy, where a learner of this project answered.
        reason: `ErrorInfo.reason`, one of `common.errors.Reason`; empty where the status came from
            somewhere else (gRPC itself, a proxy).
        violations: Of BadRequest.
        retry_seconds: Of RetryInfo; None where there is none.
    """

    code: Code
    message: str
    reason: str = ""
    violations: tuple[Violation, ...] = ()
    retry_seconds: float | None = None

    def __str__(self) -> str:
        """One line for people: code, reason, message, and the fields that it does not name."""
        label = f"{self.code.name} {self.reason}".strip()
        said = [f"{violation.field}: {violation.description}" for violation in self.violations]
        fields = "".join(f"; {text}" for text in said if text not in self.message)
        return f"{label}: {self.message}{fields}"


def read(error: grpc.RpcError) -> Status:
    """The status of an error that a call of `grpc` or `grpc.aio` raised.

    Details that cannot be parsed, or that belong to another status, are left out: the code stands.
    """
    code = Code(error.code().value[0])
    message = error.details() or ""
    rich = _details(error)
    return _with_details(Status(code, message), rich) if rich is not None else Status(code, message)


def _details(error: grpc.RpcError) -> status_pb2.Status | None:
    # Imported here and below because only a failed call needs them.
    from google.protobuf.message import DecodeError
    from grpc_status import rpc_status

    try:
        rich: status_pb2.Status | None = rpc_status.from_call(error)  # type: ignore[arg-type]
    except (ValueError, DecodeError):
        return None
    return rich


def _with_details(status: Status, rich: status_pb2.Status) -> Status:
    from google.rpc import error_details_pb2

    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in rich.details:
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            status = dataclasses.replace(status, reason=info.reason)
        elif detail.Unpack(bad):
            found = tuple(Violation(v.field, v.description) for v in bad.field_violations)
            status = dataclasses.replace(status, violations=found)
        elif detail.Unpack(retry):
            seconds = retry.retry_delay.ToTimedelta().total_seconds()
            status = dataclasses.replace(status, retry_seconds=max(0.0, seconds))
    return status
