"""A learner that answers what a test says, over real gRPC on a port of its own."""

import asyncio
import collections
import contextlib
import dataclasses
import hashlib
import threading

import grpc
import grpc.aio
import numpy as np
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from common import signature
from common.signature import ColumnKey, ColumnSpec, GraphInput, GraphOutput, Role, Signature
from common.statuses import Code
from protos.wiserl.v1 import learner_pb2, learner_pb2_grpc

PATIENCE_SECONDS = 100.0
"""A guard against hanging, within the time that a test has."""

SIGNATURE = Signature(
    inputs=(GraphInput("observation", Role.OBSERVATION, np.dtype("float32"), (2,)),),
    outputs=(GraphOutput("action", Role.ACTION, np.dtype("int64")),),
    columns=(ColumnSpec(ColumnKey(Role.REWARD), np.dtype("float32")),),
)


@dataclasses.dataclass(frozen=True)
class Refuse:
    """A status to answer, with its details."""

    code: Code
    reason: str = ""
    retry_seconds: float | None = None
    message: str = "no"

    def to_grpc(self):
        details = []
        if self.reason:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason, domain="wiserl"))
        if self.retry_seconds is not None:
            delay = duration_pb2.Duration(nanos=int(self.retry_seconds * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        status = status_pb2.Status(code=self.code, message=self.message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return rpc_status.to_status(status)


class Never:
    """Holds the call until the caller gives up."""


NEVER = Never()


def run_of(run_id="run-1", environment="Fake-v0", **limits):
    run = learner_pb2.GetRunResponse(run_id=run_id, protocol_version=1, algorithm="fake")
    run.training_environment.id = environment
    run.evaluation_environment.id = environment
    values = {
        "max_message_bytes": 2**26,
        "wait_milliseconds": 200,
        "lease_milliseconds": 2000,
        "push_deadline_milliseconds": 5000,
        "max_slots": 64,
    }
    for name, value in {**values, **limits}.items():
        setattr(run.limits, name, value)
    return run


def registration(index=0, last_sequence=0):
    return learner_pb2.RegisterResponse(
        signature=signature.to_proto(SIGNATURE), index=index, last_sequence=last_sequence
    )


def remembers(learner, answer):
    """`answer` to a sampler that has registered with this learner, UNKNOWN_SAMPLER to others."""

    def of(request):
        known = {registered.sampler_id for registered in learner.requests["Register"]}
        if request.sampler_id not in known:
            return Refuse(Code.FAILED_PRECONDITION, "UNKNOWN_SAMPLER")
        return answer(request) if callable(answer) else answer

    return of


def weights(version=1, model=b"model", revision=1, grants=()):
    return learner_pb2.PullWeightsResponse(
        version=version,
        model=model,
        model_sha256=hashlib.sha256(model).digest(),
        grants_revision=revision,
        grants=grants,
    )


class FakeLearner(learner_pb2_grpc.LearnerServiceServicer):
    """Answers each call with the next of its answers, then with the last one again and again.

    An answer is a response, a `Refuse`, `NEVER`, or a function of the request that gives one.

    Attributes:
        answers: By method.
        requests: What was asked, by method, in order.
        calls: The methods asked, in order.
        seconds_left: Until the deadline of each call when it came, by method, in order.
    """

    def __init__(self):
        accepted = learner_pb2.PushTrajectoriesResponse(verdict=learner_pb2.VERDICT_ACCEPTED)
        self.answers = {
            "GetRun": [run_of()],
            "Register": [registration()],
            "PullWeights": [NEVER],
            "PushTrajectories": [accepted],
            "ReportEpisodes": [learner_pb2.ReportEpisodesResponse()],
        }
        self.requests = collections.defaultdict(list)
        self.calls = []
        self.seconds_left = collections.defaultdict(list)
        self._news = threading.Condition()
        self._waiting = []

    async def _answer(self, method, request, context):
        with self._news:
            self.requests[method].append(request)
            self.calls.append(method)
            self.seconds_left[method].append(context.time_remaining())
            self._news.notify_all()
        for waiting in self._waiting:
            waiting.set()
        answers = self.answers[method]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer = answer(request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, Refuse):
            await context.abort_with_status(answer.to_grpc())
        if answer is NEVER:
            await asyncio.sleep(3600)
        return answer

    async def asked(self, method, count):
        """Waits, within the server's loop, until `method` was asked `count` times."""
        news = asyncio.Event()
        self._waiting.append(news)
        while len(self.requests[method]) < count:
            news.clear()
            await news.wait()
        self._waiting.remove(news)

    def wait_for(self, ready):
        """Waits, outside of the server's loop, until `ready(self)` holds."""
        with self._news:
            assert self._news.wait_for(lambda: ready(self), PATIENCE_SECONDS), self.calls

    async def GetRun(self, request, context):  # noqa: N802
        return await self._answer("GetRun", request, context)

    async def Register(self, request, context):  # noqa: N802
        return await self._answer("Register", request, context)

    async def PullWeights(self, request, context):  # noqa: N802
        return await self._answer("PullWeights", request, context)

    async def PushTrajectories(self, request, context):  # noqa: N802
        return await self._answer("PushTrajectories", request, context)

    async def ReportEpisodes(self, request, context):  # noqa: N802
        return await self._answer("ReportEpisodes", request, context)


@contextlib.asynccontextmanager
async def serving(learner, port=0):
    """Serves in the caller's loop; gives the address."""
    options = [("grpc.max_receive_message_length", 2**27), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options)
    learner_pb2_grpc.add_LearnerServiceServicer_to_server(learner, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.contextmanager
def served(learner, port=0):
    """Serves in a thread of its own; gives the address."""
    loop = asyncio.new_event_loop()
    stop, started = asyncio.Event(), threading.Event()
    found = []

    async def serve():
        async with serving(learner, port) as address:
            found.append(address)
            started.set()
            await stop.wait()

    def work():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=work, name="fake-learner")
    thread.start()
    try:
        assert started.wait(PATIENCE_SECONDS)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
