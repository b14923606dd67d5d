"""How a real server is watched, told to drain, and ends."""

import asyncio

import grpc
import pytest
from front_server import (
    SECONDS,
    call,
    held_pull,
    join,
    open_round,
    reached,
    refused,
)
from front_support import (
    RUN,
    A,
    good_push,
    make_coordinator,
    pull_request,
    register_request,
    report_request,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.channel import open_channel
from common.errors import Reason
from common.statuses import Code
from learner.front.security import AddressError
from learner.front.server import SERVICE_NAME, FrontServer
from protos.wiserl.v1 import learner_pb2

B = "sampler-b"


def test_draining_answers_every_call_unavailable(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        waiting, _ = await held_pull(server, stub)
        with server.locked() as coordinator:
            coordinator.drain()
        found = [await refused(waiting)]
        for rpc, request in (
            ("GetRun", learner_pb2.GetRunRequest()),
            ("Register", register_request(B)),
            ("PullWeights", pull_request(A)),
            ("PushTrajectories", good_push(1)),
            ("ReportEpisodes", report_request(A, 1, 1, {})),
        ):
            found.append(await refused(getattr(stub, rpc)(request, timeout=SECONDS)))
        return found

    for status in call(server, talk):
        assert (status.code, status.reason) == (Code.UNAVAILABLE, Reason.DRAINING)


def test_a_registration_that_waits_is_told_of_draining(serve):
    server = serve(is_open=False)

    async def talk(stub):
        waiting = stub.Register(register_request(A), timeout=SECONDS)
        await reached(server, "", 2)  # the other one keeps the server's own house
        with server.locked() as coordinator:
            coordinator.drain()
        return await refused(waiting)

    status = call(server, talk)
    assert (status.code, status.reason) == (Code.UNAVAILABLE, Reason.DRAINING)


def test_watching_a_run(serve):
    server = serve(total_steps=4)
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        request = learner_pb2.WatchRunRequest(run_id=RUN, interval_milliseconds=1)
        stream = stub.WatchRun(request, timeout=SECONDS)
        states = [await stream.read()]
        await stub.PushTrajectories(good_push(news.grants[0].grant_id), timeout=SECONDS)
        while not states[-1].curve:
            states.append(await stream.read())
        states.append(await stream.read())
        with server.locked() as coordinator:
            coordinator.finish("done")
        while (state := await stream.read()) != grpc.aio.EOF:
            states.append(state)
        return states

    states = call(server, talk)
    assert states[0].phase == learner_pb2.RUN_PHASE_TRAINING
    assert [status.sampler_id for status in states[0].samplers] == [A]
    points = [(point.environment_steps, point.episode_return) for s in states for point in s.curve]
    assert points == [(4, 1.0)]
    assert states[-1].phase == learner_pb2.RUN_PHASE_FINISHED
    assert states[-1].environment_steps == states[-1].total_steps == 4


def test_watching_a_learner_that_drains(serve):
    server = serve()

    async def talk(stub):
        stream = stub.WatchRun(learner_pb2.WatchRunRequest(), timeout=SECONDS)
        await stream.read()
        with server.locked() as coordinator:
            coordinator.drain()
        while (await stream.read()).phase != learner_pb2.RUN_PHASE_DRAINING:
            pass
        return await refused(stream.read())

    assert call(server, talk).code == Code.UNAVAILABLE


def test_watching_another_run(serve):
    server = serve()

    async def talk(stub):
        request = learner_pb2.WatchRunRequest(run_id="run-2")
        return await refused(stub.WatchRun(request, timeout=SECONDS).read())

    assert call(server, talk).reason == Reason.RUN_CHANGED


def test_health(serve):
    server = serve()

    async def check(channel):
        stub = health_pb2_grpc.HealthStub(channel)
        return [
            (await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)).status
            for name in ("", SERVICE_NAME)
        ]

    async def run():
        async with open_channel(server.address) as channel:
            before = await check(channel)
            with server.locked() as coordinator:
                coordinator.drain()
            # The health service follows when the loop next turns.
            while (after := await check(channel)) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            return before, after

    before, after = asyncio.run(run())
    assert set(before) == {health_pb2.HealthCheckResponse.SERVING}
    assert health_pb2.HealthCheckResponse.NOT_SERVING in after


def test_a_port_is_one_learner_s(serve):
    server = serve()
    other = FrontServer(make_coordinator(), server.address)
    with pytest.raises(AddressError, match="is the port taken"):
        other.start()
    other.stop()


def test_stopping_twice_is_fine(serve):
    server = serve()
    server.stop()
    server.stop()
