"""Registration: what a sampler that wants in must be, and what its pushes may take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from common import specs
from common.errors import InvalidFieldError, Reason
from learner.front.refusals import Refusal
from learner.front.settings import PROTOCOL_VERSION, Limits

if TYPE_CHECKING:
    from common.specs import EnvironmentSpec
    from protos.wiserl.v1 import learner_pb2

SAMPLER_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
MAX_NAME = 128

MESSAGE_OVERHEAD_BYTES = 4096
"""What a push holds besides its columns: names, shapes, a few episodes."""


def check(request: learner_pb2.RegisterRequest, limits: Limits) -> EnvironmentSpec:
    """The spec of a registration whose fields are what they must be.

    Raises:
        Refusal: FAILED_PRECONDITION `PROTOCOL_MISMATCH`, or INVALID_ARGUMENT with the field.
    """
    if request.protocol_version != PROTOCOL_VERSION:
        raise Refusal.precondition(
            Reason.PROTOCOL_MISMATCH,
            f"protocol_version is {request.protocol_version}, but this learner speaks "
            f"{PROTOCOL_VERSION}; run learner and sampler of one release",
        )
    try:
        _check_fields(request, limits)
        return _spec(request)
    except InvalidFieldError as error:
        raise Refusal.invalid(error) from None


def _check_fields(request: learner_pb2.RegisterRequest, limits: Limits) -> None:
    if not SAMPLER_ID.fullmatch(request.sampler_id):
        raise InvalidFieldError(
            "sampler_id", "needs 8 to 64 letters, digits, `-` or `_`; make it up at random"
        )
    if len(request.name) > MAX_NAME or not request.name.isprintable():
        raise InvalidFieldError(
            "name", f"has {len(request.name)} characters; at most {MAX_NAME}, all of them printable"
        )
    if not 1 <= request.slots <= limits.max_slots:
        raise InvalidFieldError(
            "slots", f"{request.slots} is not in [1, {limits.max_slots}]; start another sampler"
        )
    if request.max_slots_per_push < 1:
        raise InvalidFieldError("max_slots_per_push", "is 0; a push holds at least one slot")


def _spec(request: learner_pb2.RegisterRequest) -> EnvironmentSpec:
    try:
        return specs.from_proto(request.spec)
    except InvalidFieldError as error:
        raise error.under("spec") from None


def check_same(run: EnvironmentSpec, spec: EnvironmentSpec) -> None:
    """That a sampler's environment is the run's.

    Raises:
        Refusal: FAILED_PRECONDITION `SPEC_MISMATCH`, with what differs.
    """
    differences = run.differences(spec)
    if differences:
        raise Refusal.precondition(
            Reason.SPEC_MISMATCH,
            f"the environment is not the run's: {'; '.join(differences)}; use the same "
            "environment, arguments and package versions for every sampler",
        )


def push_bytes(
    request: learner_pb2.RegisterRequest, *, fragment_bytes: int, rows: int, limits: Limits
) -> int:
    """The bytes to set aside for the largest push of a sampler.

    Raises:
        Refusal: RESOURCE_EXHAUSTED: not even one fragment fits into a message.
    """
    smallest = fragment_bytes + MESSAGE_OVERHEAD_BYTES
    if smallest > limits.max_message_bytes:
        raise Refusal.too_large(
            f"a fragment of {rows} rows takes {smallest} bytes, more than max_message_bytes "
            f"({limits.max_message_bytes}); lower n_steps or raise the learner's max_message_bytes"
        )
    slots = min(request.max_slots_per_push, request.slots)
    return min(slots * fragment_bytes + MESSAGE_OVERHEAD_BYTES, limits.max_message_bytes)
