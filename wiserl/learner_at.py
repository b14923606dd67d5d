"""A learner at an address, as a person's command calls it: without retries that hide anything."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import grpc

from common.addresses import split_address
from common.channel import DEFAULT_MAX_MESSAGE_BYTES, client_options
from common.errors import WiseRLError
from common.security import ClientSecurity
from protos.wiserl.v1 import learner_pb2_grpc
from sampler.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protos.wiserl.v1.learner_pb2_grpc import LearnerServiceStub


PLAIN = ClientSecurity()
"""In plain text."""


class UnreachableError(WiseRLError):
    """No learner answers."""

    exit_code = ExitCode.UNREACHABLE


@contextlib.contextmanager
def stub(address: str, security: ClientSecurity = PLAIN) -> Iterator[LearnerServiceStub]:
    """Calls of the learner at `HOST:PORT`; it connects with the first one.

    Raises:
        InvalidFieldError: The address cannot be one.
        WiseRLError: A certificate or a token that cannot be used.
    """
    split_address(address)
    options = client_options(address, DEFAULT_MAX_MESSAGE_BYTES)
    credentials = security.credentials()
    with (
        grpc.insecure_channel(address, options=options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options=options)
    ) as channel:
        yield learner_pb2_grpc.LearnerServiceStub(channel)
