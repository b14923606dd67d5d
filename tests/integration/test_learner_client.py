"""What the sampler's client does about every answer, over real gRPC."""

import asyncio
import contextlib
import math
import random

import grpc
import pytest
from fake_learner import NEVER, FakeLearner, Refuse, registration, run_of, serving, weights
from processes import free_port

from common.statuses import Code
from protos.wiserl.v1 import learner_pb2
from sampler.client import LearnerClient, RunChangedError, UnknownSamplerError, VersionGoneError
from sampler.exits import ExitCode, SamplerStopError
from sampler.refusals import Refused

ACCEPTED = learner_pb2.PushTrajectoriesResponse(verdict=learner_pb2.VERDICT_ACCEPTED)
PUSH = learner_pb2.PushTrajectoriesRequest(run_id="run-1", sampler_id="s", sequence=7)


def against(learner, work, **options):
    """Runs `work(client)` against a learner, after GetRun."""

    async def connected():
        async with serving(learner) as address:
            client = LearnerClient(address, draw=random.Random(1), **options)  # noqa: S311
            try:
                await client.get_run()
                return await work(client)
            finally:
                await client.close()

    return asyncio.run(connected())


def push(*answers, run=None):
    """The answer to a push, and the learner that gave these answers."""
    learner = FakeLearner()
    learner.answers["GetRun"] = [run or run_of()]
    learner.answers["PushTrajectories"] = list(answers)
    return against(learner, lambda client: client.push(PUSH)), learner


@pytest.mark.parametrize(
    "passing",
    [
        Refuse(Code.UNAVAILABLE),
        Refuse(Code.UNAVAILABLE, "DRAINING"),
        Refuse(Code.INTERNAL, "DEFECT"),
        Refuse(Code.UNKNOWN),
        Refuse(Code.ABORTED),
        Refuse(Code.CANCELLED, "SUPERSEDED"),
        Refuse(Code.RESOURCE_EXHAUSTED, "NO_ROOM", retry_seconds=0.01),
    ],
    ids=lambda refuse: f"{refuse.code.name}-{refuse.reason}",
)
def test_the_same_push_again_until_there_is_an_answer(passing):
    answer, learner = push(passing, passing, ACCEPTED)
    assert answer == ACCEPTED
    # gRPC itself repeats UNAVAILABLE; whoever repeats, it is the same sequence.
    assert learner.requests["PushTrajectories"] == [PUSH] * 3


def test_a_deadline_means_the_same_push_again():
    answer, learner = push(NEVER, ACCEPTED, run=run_of(push_deadline_milliseconds=50))
    assert answer == ACCEPTED
    # Twice, or more often where the machine is too busy to answer the second one in time.
    asked = learner.requests["PushTrajectories"]
    assert len(asked) >= 2
    assert asked == [PUSH] * len(asked)


def test_a_push_that_takes_longer_than_its_deadline_gets_longer():
    """As where the line is slow: cut off at the same time again and again, it would never end."""
    learner = FakeLearner()
    learner.answers["GetRun"] = [run_of(push_deadline_milliseconds=50)]

    def in_time(request):
        return ACCEPTED if learner.seconds_left["PushTrajectories"][-1] > 0.15 else NEVER

    learner.answers["PushTrajectories"] = [in_time]
    assert against(learner, lambda client: client.push(PUSH)) == ACCEPTED
    assert learner.requests["PushTrajectories"] == [PUSH] * len(
        learner.seconds_left["PushTrajectories"]
    )


@pytest.mark.parametrize(
    ("refuse", "too_large"),
    [
        (Refuse(Code.INVALID_ARGUMENT, "INVALID_REQUEST", message="batch: a NaN"), False),
        (Refuse(Code.RESOURCE_EXHAUSTED, "TOO_LARGE", message="batch: a NaN"), True),
    ],
)
def test_a_refusal_is_final(refuse, too_large):
    answer, learner = push(refuse)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.too_large, answer.sent) == (refuse.code, too_large, True)
    assert "batch: a NaN" in answer.message
    assert len(learner.requests["PushTrajectories"]) == 1


def test_what_is_too_large_is_never_sent():
    answer, learner = push(ACCEPTED, run=run_of(max_message_bytes=8))
    assert isinstance(answer, Refused)
    assert answer.too_large
    assert not answer.sent
    assert "the learner takes 8" in answer.message
    assert learner.requests["PushTrajectories"] == []


@pytest.mark.parametrize(
    ("refuse", "error"),
    [
        (Refuse(Code.FAILED_PRECONDITION, "RUN_CHANGED"), RunChangedError),
        (Refuse(Code.FAILED_PRECONDITION, "UNKNOWN_SAMPLER"), UnknownSamplerError),
    ],
)
def test_what_ends_a_session(refuse, error):
    with pytest.raises(error):
        push(refuse)


@pytest.mark.parametrize(
    "refuse",
    [
        Refuse(Code.FAILED_PRECONDITION, "SPEC_MISMATCH"),
        Refuse(Code.FAILED_PRECONDITION, "PROTOCOL_MISMATCH"),
        Refuse(Code.FAILED_PRECONDITION, "ENVIRONMENT_UNSUPPORTED"),
        Refuse(Code.PERMISSION_DENIED),
        Refuse(Code.INVALID_ARGUMENT, "INVALID_REQUEST"),
        Refuse(Code.RESOURCE_EXHAUSTED, "TOO_LARGE"),
    ],
    ids=lambda refuse: f"{refuse.code.name}-{refuse.reason}",
)
def test_what_stops_a_sampler(refuse):
    learner = FakeLearner()
    learner.answers["Register"] = [refuse]
    with pytest.raises(SamplerStopError, match=refuse.code.name) as stop:
        against(learner, lambda client: client.register(learner_pb2.RegisterRequest()))
    assert stop.value.exit_code == ExitCode.REFUSED
    assert len(learner.requests["Register"]) == 1


def test_a_token_that_is_not_known_is_read_again_once():
    learner = FakeLearner()
    learner.answers["Register"] = [Refuse(Code.UNAUTHENTICATED), registration()]
    register = learner_pb2.RegisterRequest()
    assert against(learner, lambda client: client.register(register)) == registration()

    learner = FakeLearner()
    learner.answers["Register"] = [Refuse(Code.UNAUTHENTICATED)]
    with pytest.raises(SamplerStopError, match="UNAUTHENTICATED") as stop:
        against(learner, lambda client: client.register(register))
    assert stop.value.exit_code == ExitCode.REFUSED
    assert len(learner.requests["Register"]) == 2


def test_a_pull_asks_anew_for_every_attempt():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [Refuse(Code.INTERNAL), weights()]
    rows = iter((1, 2))

    def request():
        made = learner_pb2.PullWeightsRequest()
        made.progress.rows_rolled = next(rows)
        return made

    assert against(learner, lambda client: client.pull(request)) == weights()
    asked = [asked.progress.rows_rolled for asked in learner.requests["PullWeights"]]
    assert asked == [1, 2]


@contextlib.asynccontextmanager
async def slow_line(address, first_bytes, go_on):
    """A proxy whose connections each stop after so many bytes of the caller, until `go_on`."""
    host, _, port = address.rpartition(":")
    writers = []

    async def forward(reader, writer, bytes_left):
        while content := await reader.read(4096):
            bytes_left -= len(content)
            if bytes_left < 0:
                await go_on.wait()
            writer.write(content)
            await writer.drain()

    async def connected(reader, writer):
        there, here = await asyncio.open_connection(host, port)
        writers.extend((writer, here))
        with contextlib.suppress(OSError):
            await asyncio.gather(
                forward(reader, here, first_bytes), forward(there, writer, math.inf)
            )

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=4096)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for writer in writers:
            writer.close()


def test_pulls_do_not_wait_behind_a_push():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [weights()]
    push = learner_pb2.PushTrajectoriesRequest(run_id="run-1", sequence=1)
    push.batch.columns.add().tensor.data = bytes(2**23)

    async def work():
        go_on = asyncio.Event()
        async with serving(learner) as address, slow_line(address, 2**16, go_on) as line:
            client = LearnerClient(line)
            await client.get_run()
            pushing = asyncio.create_task(client.push(push))
            # More than one, since the first may overtake the push.
            for _ in range(100):
                await client.pull(learner_pb2.PullWeightsRequest)
            assert not pushing.done()
            go_on.set()
            answer = await pushing
            await client.close()
            return answer

    assert asyncio.run(work()) == ACCEPTED


def test_a_version_that_is_gone():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [Refuse(Code.NOT_FOUND, "VERSION_GONE")]
    with pytest.raises(VersionGoneError):
        against(learner, lambda client: client.pull(learner_pb2.PullWeightsRequest))


def test_a_model_larger_than_the_first_limit_comes_through():
    learner = FakeLearner()
    learner.answers["GetRun"] = [run_of(max_message_bytes=2**27)]
    learner.answers["PullWeights"] = [weights(model=bytes(2**26 + 1))]

    async def pulled_bytes(client):
        # Only the number leaves: asyncio writes out what its main task answers, all 64 MiB of it.
        return len((await client.pull(learner_pb2.PullWeightsRequest)).model)

    assert against(learner, pulled_bytes) == 2**26 + 1


def test_farewell_is_tried_once():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [Refuse(Code.INTERNAL)]
    against(learner, lambda client: client.leave(learner_pb2.PullWeightsRequest(leaving=True)))
    assert [request.leaving for request in learner.requests["PullWeights"]] == [True]


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    learner = FakeLearner()
    against(learner, lambda client: client.register(learner_pb2.RegisterRequest()))
    assert learner.calls == ["GetRun", "Register"]


def test_nobody_there_for_too_long():
    async def connect():
        client = LearnerClient(f"127.0.0.1:{free_port()}", connect_timeout_seconds=0.05)
        try:
            await client.leave(learner_pb2.PullWeightsRequest())
            await client.get_run()
        finally:
            await client.close()

    with pytest.raises(SamplerStopError, match=r"no learner at 127\.0\.0\.1") as stop:
        asyncio.run(connect())
    assert stop.value.exit_code == ExitCode.UNREACHABLE


def test_the_learner_may_come_later():
    async def connect():
        port = free_port()
        client = LearnerClient(f"127.0.0.1:{port}")
        call = asyncio.create_task(client.get_run())
        # The first attempt to connect must have failed before there is a learner.
        state = client._channel.get_state(try_to_connect=True)
        while state != grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            await client._channel.wait_for_state_change(state)
            state = client._channel.get_state()
        async with serving(FakeLearner(), port):
            run = await call
            await client.close()
        return run

    assert asyncio.run(connect()).run_id == "run-1"


def test_a_call_that_is_called_off_ends():
    async def work(client):
        call = asyncio.create_task(client.pull(learner_pb2.PullWeightsRequest))
        learner_asked = asyncio.get_running_loop().run_in_executor(
            None, learner.wait_for, lambda learner: learner.requests["PullWeights"]
        )
        await learner_asked
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return await client.register(learner_pb2.RegisterRequest())

    learner = FakeLearner()
    assert against(learner, work) == registration()
