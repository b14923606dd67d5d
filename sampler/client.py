"""Calls of a learner with deadlines, repeated as the contract says until a final answer."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from common import statuses
from common.channel import DEFAULT_MAX_MESSAGE_BYTES, open_channel
from common.errors import WiseRLError
from common.logging import Logger
from common.statuses import Code, Status
from protos.wiserl.v1 import learner_pb2
from sampler.exits import ExitCode, SamplerStopError
from sampler.method import Method
from sampler.record import Record
from sampler.refusals import Refused
from sampler.retries import Action, Backoff, action, is_silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from common.tracing import Tracing

_GET_RUN_SECONDS = 5.0
_REGISTER_SECONDS = 60.0
_PULL_MARGIN_SECONDS = 10.0
_LEAVE_SECONDS = 2.0
_DEFAULT_SECONDS = 30.0
_COMPLAIN_EVERY_SECONDS = 10.0

R = TypeVar("R", bound="Message")

_logger = Logger()


class RunChangedError(WiseRLError):
    """The learner serves another run: start over from GetRun."""


class UnknownSamplerError(WiseRLError):
    """The learner has forgotten this sampler: register again."""


class VersionGoneError(WiseRLError):
    """The version that a pull named is not kept any more."""


_SIGNALS = {
    Action.RESTART: RunChangedError,
    Action.REGISTER: UnknownSamplerError,
    Action.WITHOUT_VERSION: VersionGoneError,
}


class LearnerClient:
    """The learner at one address.

    Every call waits for the connection and is repeated until the learner has given a final answer.
    Where that answer is that the sampler must do something else, it is one of these errors:
    `RunChangedError`, `UnknownSamplerError`, `VersionGoneError`, or `SamplerStopError` where there
    is nothing left to do (also when no learner was heard of for too long).

    Args:
        address: HOST:PORT.
        connect_timeout_seconds: How long to wait for a learner that does not answer at all, at the
            start and later; 0 waits for ever.
        credentials: TLS and token; None for plain text.
        draw: The randomness of the pauses between attempts.
        tracing: Where spans of the calls go; None for nowhere.

    Attributes:
        record: What the calls so far tell of this sampler.
    """

    def __init__(
        self,
        address: str,
        *,
        connect_timeout_seconds: float = 0.0,
        credentials: grpc.ChannelCredentials | None = None,
        draw: random.Random | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._address = address
        self._connect_timeout_seconds = connect_timeout_seconds
        self._credentials = credentials
        self._draw = draw or random.Random()  # noqa: S311 - pauses are no secret
        self.record = Record()
        self._tracing = tracing
        self._limits = learner_pb2.RunLimits()
        self._silent_since: float | None = None
        self._complained = float("-inf")
        self._open(DEFAULT_MAX_MESSAGE_BYTES)

    def _open(self, max_message_bytes: int) -> None:
        self._receives_bytes = max_message_bytes
        # Two connections: on one, where a push takes long, the pulls that renew the lease would
        # wait behind what of it lies in the buffers of the connection.
        self._channel, self._wide = (
            open_channel(
                self._address,
                max_message_bytes=max_message_bytes,
                credentials=self._credentials,
                own_connection=own_connection,
            )
            for own_connection in (False, True)
        )
        self._get_run = self._method(self._channel, "GetRun", learner_pb2.GetRunResponse)
        self._register = self._method(self._channel, "Register", learner_pb2.RegisterResponse)
        self._pull = self._method(self._channel, "PullWeights", learner_pb2.PullWeightsResponse)
        self._push = self._method(
            self._wide, "PushTrajectories", learner_pb2.PushTrajectoriesResponse
        )
        self._report = self._method(
            self._channel, "ReportEpisodes", learner_pb2.ReportEpisodesResponse
        )

    def _method(self, channel: grpc.aio.Channel, name: str, response: type[R]) -> Method[R]:
        return Method(channel, name, response, tracing=self._tracing, record=self.record)

    async def close(self) -> None:
        """Hangs up; calls under way end with `asyncio.CancelledError`."""
        await self._channel.close(None)
        await self._wide.close(None)

    async def get_run(self) -> learner_pb2.GetRunResponse:
        """What run there is; its limits hold for the calls that follow."""
        payload = learner_pb2.GetRunRequest().SerializeToString()
        seconds = min(_GET_RUN_SECONDS, self._connect_timeout_seconds or _GET_RUN_SECONDS)
        run = await self._never_refused(self._get_run, lambda: payload, seconds)
        self._limits = run.limits
        self.record.found(run)
        if run.limits.max_message_bytes > self._receives_bytes:
            # A channel's limits are fixed when it is opened.
            await self.close()
            self._open(run.limits.max_message_bytes)
        return run

    async def register(self, request: learner_pb2.RegisterRequest) -> learner_pb2.RegisterResponse:
        """Registers; waits for the learner's export of the policy."""
        payload = request.SerializeToString()
        response = await self._never_refused(self._register, lambda: payload, _REGISTER_SECONDS)
        self.record.registered(response)
        return response

    async def pull(
        self, request: Callable[[], learner_pb2.PullWeightsRequest]
    ) -> learner_pb2.PullWeightsResponse:
        """Pulls; `request` is asked anew for every attempt, so that each reports the progress.

        Raises:
            VersionGoneError: The version that the request names is gone.
        """
        seconds = self._limits.wait_milliseconds / 1000 + _PULL_MARGIN_SECONDS

        def payload() -> bytes:
            message = request()
            self.record.progress = message.progress
            return message.SerializeToString()

        response = await self._never_refused(self._pull, payload, seconds)
        self.record.pulled(response)
        return response

    async def push(
        self, request: learner_pb2.PushTrajectoriesRequest
    ) -> learner_pb2.PushTrajectoriesResponse | Refused:
        """Pushes, with the same sequence until there is a final answer."""
        return await self._sized(self._push, request)

    async def report(
        self, request: learner_pb2.ReportEpisodesRequest
    ) -> learner_pb2.ReportEpisodesResponse | Refused:
        """Reports episodes."""
        return await self._sized(self._report, request)

    async def leave(self, request: learner_pb2.PullWeightsRequest) -> None:
        """The last pull: tried once, for whom it reaches."""
        try:
            await self._pull.attempt(
                request.SerializeToString(), _LEAVE_SECONDS, wait_for_ready=False
            )
        except grpc.aio.AioRpcError as error:
            _logger.debug("leave_failed", status=str(statuses.read(error)))

    async def _sized(self, method: Method[R], request: Message) -> R | Refused:
        """A call whose request may be too large, which is found out before it is sent."""
        payload = request.SerializeToString()
        limit = self._limits.max_message_bytes
        if limit and len(payload) > limit:
            return Refused(
                Code.RESOURCE_EXHAUSTED,
                f"a request of {method.name} has {len(payload)} bytes, the learner takes {limit}; "
                "raise its max_message_bytes or roll fewer rows a fragment",
                sent=False,
            )
        return await self._final(
            method, lambda: payload, self._limits.push_deadline_milliseconds / 1000
        )

    async def _never_refused(
        self, method: Method[R], payload: Callable[[], bytes], seconds: float
    ) -> R:
        """A call that leaves nothing to go on with where it is refused."""
        answer = await self._final(method, payload, seconds)
        if isinstance(answer, Refused):
            raise SamplerStopError(ExitCode.REFUSED, f"{method.name}: {answer.message}")
        return answer

    async def _final(
        self, method: Method[R], payload: Callable[[], bytes], seconds: float
    ) -> R | Refused:
        """The final answer to a call: a response, or a refusal; anything else is raised."""
        backoff = Backoff(self._draw)
        refreshed = False
        attempt = 0
        while True:
            attempt += 1
            request = payload()
            allowed = method.patience.seconds(seconds or _DEFAULT_SECONDS, len(request))
            began = time.monotonic()
            try:
                response = await method.attempt(request, allowed, number=attempt)
            except grpc.aio.AioRpcError as error:
                status = statuses.read(error)
                self.record.calls[method.name, status.code.name] += 1
            else:
                self.record.calls[method.name, "OK"] += 1
                method.patience.sufficed((time.monotonic() - began) / allowed)
                self._heard()
                return response
            is_busy = method.is_connected and status.code == Code.DEADLINE_EXCEEDED
            if is_busy:
                method.patience.was_too_short()
            if is_busy or not is_silence(status):
                self._heard()
            else:
                self._wait_on(began, status)
            reaction = action(status)
            if reaction == Action.REFUSED:
                return Refused(status.code, str(status))
            if reaction == Action.STOP or (reaction == Action.REFRESH and refreshed):
                raise SamplerStopError(ExitCode.REFUSED, f"{method.name}: {status}")
            if reaction in _SIGNALS:
                raise _SIGNALS[reaction](str(status))
            refreshed = reaction == Action.REFRESH
            self._complain(method.name, status)
            if reaction == Action.WAIT:
                await asyncio.sleep(backoff.pause_of(status.retry_seconds or 0.0))
            else:
                await asyncio.sleep(backoff.pause())

    def _wait_on(self, began: float, status: Status) -> None:
        """Notes that a call was not answered at all.

        Raises:
            SamplerStopError: Nothing was heard of the learner for too long.
        """
        if self._silent_since is None:
            self._silent_since = began
        silence = time.monotonic() - self._silent_since
        if 0 < self._connect_timeout_seconds <= silence:
            raise SamplerStopError(
                ExitCode.UNREACHABLE,
                f"no learner at {self._address} for {silence:.0f} s ({status}); check the address, "
                "or raise --connect-timeout-seconds",
            )

    def _heard(self) -> None:
        if self._silent_since is not None:
            silence = time.monotonic() - self._silent_since
            _logger.info("learner_reached", address=self._address, after_seconds=round(silence, 1))
            self._silent_since = None

    def _complain(self, method: str, status: Status) -> None:
        """Warns of failed calls, but not of every one."""
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN_EVERY_SECONDS:
            self._complained = now
            _logger.warning("call_failed", method=method, status=str(status))
