"""One method of the learner over raw request bytes: its patience, and one attempt at a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import grpc
import grpc.aio

from protos.wiserl.v1 import learner_pb2
from sampler.retries import Patience

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from common.tracing import Tracing
    from sampler.record import Record

_SERVICE = learner_pb2.DESCRIPTOR.services_by_name["LearnerService"].full_name

R = TypeVar("R", bound="Message")


class Method(Generic[R]):
    """A method whose requests are serialised once, measured, and sent as often as needed.

    Args:
        channel: To the learner.
        name: Such as `PullWeights`.
        response: The class of its responses.
        tracing: Where spans of attempts go; None for nowhere.
        record: What spans say of this sampler.

    Attributes:
        patience: How long answers take.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        name: str,
        response: type[R],
        *,
        tracing: Tracing | None,
        record: Record,
    ) -> None:
        self.name = name
        self.patience = Patience()
        self._channel = channel
        self._tracing = tracing
        self._record = record
        self._call = channel.unary_unary(
            f"/{_SERVICE}/{name}",
            request_serializer=_as_it_is,
            response_deserializer=response.FromString,
        )

    @property
    def is_connected(self) -> bool:
        """Whether a deadline that passes now says no more than that the learner is busy."""
        return self._channel.get_state() == grpc.ChannelConnectivity.READY

    async def attempt(
        self, request: bytes, seconds: float, *, number: int = 1, wait_for_ready: bool = True
    ) -> R:
        """One attempt at a call, in a span of its own where calls are traced.

        Args:
            request: The message.
            seconds: Its deadline.
            number: Which attempt at the same call it is, from 1.
            wait_for_ready: Wait for a connection first.

        Raises:
            AioRpcError: The status, where it is not OK.
        """
        if self._tracing is None:
            return await self._called(request, seconds, wait_for_ready=wait_for_ready)
        attributes = {
            "wiserl.attempt": number,
            "wiserl.request_bytes": len(request),
            **self._record.attributes(),
        }
        with self._tracing.client(f"{_SERVICE}/{self.name}", attributes) as span:
            try:
                response = await self._called(
                    request,
                    seconds,
                    wait_for_ready=wait_for_ready,
                    metadata=tuple(span.metadata.items()),
                )
            except grpc.aio.AioRpcError as error:
                span.ended(error.code().name, error.details() or "")
                raise
            span.ended("OK")
            return response

    async def _called(
        self,
        request: bytes,
        seconds: float,
        *,
        wait_for_ready: bool,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> R:
        response: R = await self._call(
            request, timeout=seconds, wait_for_ready=wait_for_ready, metadata=metadata
        )
        return response


def _as_it_is(payload: bytes) -> bytes:
    return payload
