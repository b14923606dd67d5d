"""The gRPC service: awaits what the coordinator would wait for, and maps refusals to statuses."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from common.logging import Logger
from learner.front.interception import abort
from learner.front.parsing import request_bytes
from learner.front.refusals import Refusal
from learner.front.sharing import EVERYONE, pushes_of
from protos.wiserl.v1 import learner_pb2, learner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from learner.front.interception import Context
    from learner.front.settings import Limits
    from learner.front.sharing import SharedCoordinator, Waiter

DEFAULT_INTERVAL_MILLISECONDS = 1000
SHORTEST_INTERVAL_MILLISECONDS = 100

_LAST_PHASES = {learner_pb2.RUN_PHASE_FINISHED, learner_pb2.RUN_PHASE_DRAINING}

_log = Logger()


class LearnerService(learner_pb2_grpc.LearnerServiceServicer):
    """Every call looks at the coordinator under its lock, and sleeps on the loop between looks."""

    def __init__(self, shared: SharedCoordinator, limits: Limits) -> None:
        self._shared = shared
        self._limits = limits

    async def GetRun(  # noqa: N802 - the contract's name
        self,
        request: learner_pb2.GetRunRequest,  # noqa: ARG002
        context: Context,
    ) -> learner_pb2.GetRunResponse:
        """See learner.proto."""
        async with _refusing("GetRun", context):
            return await self._get_run()

    async def Register(  # noqa: N802
        self, request: learner_pb2.RegisterRequest, context: Context
    ) -> learner_pb2.RegisterResponse:
        """See learner.proto."""
        async with _refusing("Register", context):
            return await self._register(request)

    async def PullWeights(  # noqa: N802
        self, request: learner_pb2.PullWeightsRequest, context: Context
    ) -> learner_pb2.PullWeightsResponse:
        """See learner.proto."""
        async with _refusing("PullWeights", context):
            return await self._pull(request)

    async def PushTrajectories(  # noqa: N802
        self, request: learner_pb2.PushTrajectoriesRequest, context: Context
    ) -> learner_pb2.PushTrajectoriesResponse:
        """See learner.proto."""
        async with _refusing("PushTrajectories", context):
            return await self._push(request)

    async def ReportEpisodes(  # noqa: N802
        self, request: learner_pb2.ReportEpisodesRequest, context: Context
    ) -> learner_pb2.ReportEpisodesResponse:
        """See learner.proto."""
        async with _refusing("ReportEpisodes", context):
            return await self._report(request)

    async def WatchRun(  # noqa: N802
        self, request: learner_pb2.WatchRunRequest, context: Context
    ) -> AsyncIterator[learner_pb2.WatchRunResponse]:
        """See learner.proto."""
        async with _refusing("WatchRun", context):
            async for response in self._watch(request):
                yield response

    async def _get_run(self) -> learner_pb2.GetRunResponse:
        with self._shared.locked() as coordinator:
            return coordinator.get_run()

    async def _register(self, request: learner_pb2.RegisterRequest) -> learner_pb2.RegisterResponse:
        with self._shared.waiting(EVERYONE) as waiter:
            while True:
                with self._shared.locked() as coordinator:
                    response = coordinator.register(self._shared.now(), request)
                if response is not None:
                    return response
                await waiter.wait()

    async def _pull(
        self, request: learner_pb2.PullWeightsRequest
    ) -> learner_pb2.PullWeightsResponse:
        since = self._shared.now()
        until = since + self._limits.wait_of(request.wait_milliseconds)
        response = self._look(request, since)
        # Only now is it known that this is a pull of that sampler and of this run.
        self._shared.supersede(request.sampler_id)
        with self._shared.waiting(request.sampler_id) as waiter:
            while response is None:
                await waiter.wait(until - self._shared.now())
                if waiter.is_superseded:
                    raise Refusal.superseded()
                response = self._look(request, since)
        return response

    def _look(
        self, request: learner_pb2.PullWeightsRequest, since: float
    ) -> learner_pb2.PullWeightsResponse | None:
        with self._shared.locked() as coordinator:
            return coordinator.pull(self._shared.now(), request, since=since)

    async def _push(
        self, request: learner_pb2.PushTrajectoriesRequest
    ) -> learner_pb2.PushTrajectoriesResponse:
        """Holds a push while there is no room; where its caller hangs up, nothing is stored."""
        since = self._shared.now()
        response = self._offer(request, since, received_bytes=request_bytes.get())
        if response is not None:
            return response
        # A sampler has one push at a time: this one is a later attempt of whatever waits, or the
        # sampler has given that up. So held pushes never take more than what was set aside.
        name = pushes_of(request.sampler_id)
        self._shared.supersede(name)
        until = since + self._limits.hold_seconds
        with self._shared.waiting(name) as waiter:
            while response is None:
                await waiter.wait(until - self._shared.now())
                if waiter.is_superseded:
                    raise Refusal.superseded()
                response = self._offer(request, since)
        return response

    def _offer(
        self,
        request: learner_pb2.PushTrajectoriesRequest,
        since: float,
        *,
        received_bytes: int = 0,
    ) -> learner_pb2.PushTrajectoriesResponse | None:
        with self._shared.locked() as coordinator:
            return coordinator.push(
                self._shared.now(), request, since=since, received_bytes=received_bytes
            )

    async def _report(
        self, request: learner_pb2.ReportEpisodesRequest
    ) -> learner_pb2.ReportEpisodesResponse:
        with self._shared.locked() as coordinator:
            return coordinator.report(
                self._shared.now(), request, received_bytes=request_bytes.get()
            )

    async def _watch(
        self, request: learner_pb2.WatchRunRequest
    ) -> AsyncIterator[learner_pb2.WatchRunResponse]:
        """The state now and then; ends when the run is over.

        Raises:
            Refusal: UNAVAILABLE, after a last response, when the learner drains.
        """
        interval = request.interval_milliseconds or DEFAULT_INTERVAL_MILLISECONDS
        seconds = max(interval, SHORTEST_INTERVAL_MILLISECONDS) / 1000
        after = -1
        with self._shared.waiting(EVERYONE) as waiter:
            while True:
                with self._shared.locked() as coordinator:
                    response = coordinator.watch(self._shared.now(), request, after=after)
                if response.curve:
                    after = response.curve[-1].environment_steps
                yield response
                if response.phase == learner_pb2.RUN_PHASE_FINISHED:
                    return
                if response.phase == learner_pb2.RUN_PHASE_DRAINING:
                    raise Refusal.draining()
                await self._pause(waiter, seconds)

    async def _pause(self, waiter: Waiter, seconds: float) -> None:
        """Lets so many seconds pass, less where the run ends."""
        until = self._shared.now() + seconds
        while (left := until - self._shared.now()) > 0:
            await waiter.wait(left)
            with self._shared.locked() as coordinator:
                if coordinator.phase in _LAST_PHASES:
                    return


@contextlib.asynccontextmanager
async def _refusing(rpc: str, context: Context) -> AsyncIterator[None]:
    """Answers whatever is raised within by a status."""
    try:
        yield
    except Refusal as refusal:
        await abort(context, refusal)
    except Exception:  # noqa: BLE001 - whatever it is, the client gets a status
        _log.exception("rpc_defect", rpc=rpc)
        await abort(context, Refusal.defect())
