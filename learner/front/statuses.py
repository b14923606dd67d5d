"""Refusals as gRPC statuses with `google.rpc` details."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from common.errors import ERROR_DOMAIN
from common.statuses import Code

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from learner.front.refusals import Refusal

MAX_TEXT = 1024
"""Of a message or a field: both travel in trailers, which are bounded to 8 KiB."""


def to_status(refusal: Refusal) -> status_pb2.Status:
    """The status of a refusal, with ErrorInfo, and BadRequest and RetryInfo where they belong."""
    message = _shortened(str(refusal))
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=refusal.reason.value, domain=ERROR_DOMAIN)
    ]
    if refusal.code == Code.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_shortened(refusal.field), description=_shortened(refusal.message)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if refusal.retry_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(refusal.retry_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=refusal.code.value, message=message, details=[_packed(each) for each in details]
    )


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
