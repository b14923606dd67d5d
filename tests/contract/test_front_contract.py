"""The contract over a real server on port 0: a whole run, pushes and reports."""

import asyncio
import hashlib

import numpy as np
import pytest
from front_malformed import MALFORMED
from front_server import (
    SECONDS,
    call,
    join,
    open_round,
    pull_after,
    refused,
)
from front_support import (
    COLUMNS,
    RUN,
    SIGNATURE,
    SPEC,
    A,
    Part,
    column_arrays,
    good_push,
    publication,
    pull_request,
    register_request,
    report_request,
)

from common import signature
from common.channel import open_channel
from common.errors import Reason
from common.statuses import Code
from learner.front.server import SERVICE_NAME
from learner.front.settings import Limits
from protos.wiserl.v1 import learner_pb2

GetRun = learner_pb2.GetRunRequest()


def test_a_run_from_get_run_to_finish(serve):
    server = serve(is_open=False, total_steps=4, limits=Limits(wait_milliseconds=100))

    async def sampler(stub):
        run = await stub.GetRun(GetRun, timeout=SECONDS)
        assert run.run_id == RUN
        assert run.limits.max_message_bytes == 64 << 20
        registered = await stub.Register(register_request(A), timeout=SECONDS)
        assert signature.from_proto(registered.signature).columns == COLUMNS
        news = await stub.PullWeights(pull_request(A), timeout=SECONDS)
        assert hashlib.sha256(news.model).digest() == news.model_sha256
        assert news.golden.inputs
        while not news.grants:  # the round is opened meanwhile
            news = await stub.PullWeights(pull_after(news), timeout=SECONDS)
        (grant,) = news.grants
        pushed = await stub.PushTrajectories(good_push(grant.grant_id), timeout=SECONDS)
        assert (pushed.verdict, pushed.newest_version) == (learner_pb2.VERDICT_ACCEPTED, 1)
        pushed = await stub.PushTrajectories(good_push(grant.grant_id), timeout=SECONDS)
        assert pushed.verdict == learner_pb2.VERDICT_DUPLICATE
        while not (work := await next_grants(stub, news.grants_revision))[0].HasField("evaluate"):
            pass
        report = report_request(A, work[0].evaluate.evaluation_id, 1, {7: 1.0, 8: 2.0})
        assert (await stub.ReportEpisodes(report, timeout=SECONDS)).accepted == 2
        while not (work := await next_grants(stub, 0))[0].HasField("finish"):
            pass
        pushed = await stub.PushTrajectories(good_push(grant.grant_id, 2), timeout=SECONDS)
        assert pushed.verdict == learner_pb2.VERDICT_ENDED
        return work[0].finish.reason

    async def next_grants(stub, revision):
        request = pull_request(A, have_version=1, have_grants_revision=revision)
        return (await stub.PullWeights(request, timeout=SECONDS)).grants[::-1]

    def train():
        assert server.wait(lambda coordinator: coordinator.spec) == SPEC
        with server.locked() as coordinator:
            coordinator.open_run(SIGNATURE, fragment_rows=2)
            coordinator.publish(publication(1))
        server.wait(lambda coordinator: coordinator.samplers)
        with server.locked() as coordinator:
            coordinator.open_round(server.now(), n_envs=2, n_steps=2)
        batch = server.wait(lambda coordinator: coordinator.closed_round())
        with server.locked() as coordinator:
            evaluation = coordinator.start_evaluation(server.now(), [7, 8])
        episodes = server.wait(lambda coordinator: coordinator.finished_evaluation(evaluation))
        with server.locked() as coordinator:
            coordinator.finish("4 of 4 steps done")
        server.wait(lambda coordinator: coordinator.all_informed(server.now()) or None)
        return batch.steps, [episode.episode.episode_return for episode in episodes]

    async def both(stub):
        return await asyncio.gather(sampler(stub), asyncio.to_thread(train))

    assert call(server, both) == ["4 of 4 steps done", (4, [1.0, 2.0])]


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_pushes_name_their_field_and_leave_nothing(serve, name):
    server = serve()
    open_round(server)
    spoil, field = MALFORMED[name]

    async def talk(stub):
        grant = (await join(stub)).grants[0].grant_id
        request = good_push(grant)
        spoil(request)
        status = await refused(stub.PushTrajectories(request, timeout=SECONDS))
        return status, await stub.PushTrajectories(good_push(grant, 2), timeout=SECONDS)

    status, pushed = call(server, talk)
    assert (status.code, status.reason) == (Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST)
    assert [violation.field for violation in status.violations] == [field]
    assert status.retry_seconds is None
    # The refused fragments stayed granted, and nothing of the refused push is in the round.
    assert pushed.verdict == learner_pb2.VERDICT_ACCEPTED
    expected = column_arrays([Part(0, ends=(1,)), Part(1)], 2)
    found = server.wait(lambda coordinator: coordinator.closed_round())
    assert all(np.array_equal(found.columns[key], expected[key]) for key in expected)
    assert (found.steps, len(found.episodes), len(found.final_rows)) == (4, 1, 0)


def test_stale_and_unknown_grants(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        other = good_push(news.grants[0].grant_id + 1)
        first = await stub.PushTrajectories(other, timeout=SECONDS)
        again = await stub.PushTrajectories(other, timeout=SECONDS)
        return first.verdict, again.verdict

    assert call(server, talk) == (learner_pb2.VERDICT_STALE, learner_pb2.VERDICT_STALE)


def test_more_slots_than_agreed(serve):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub, max_slots_per_push=1)
        return await refused(
            stub.PushTrajectories(good_push(news.grants[0].grant_id), timeout=SECONDS)
        )

    status = call(server, talk)
    assert (status.code, status.reason) == (Code.RESOURCE_EXHAUSTED, Reason.TOO_LARGE)


def test_a_report_that_is_no_number(serve):
    server = serve()

    async def talk(stub):
        await stub.Register(register_request(A), timeout=SECONDS)
        request = report_request(A, 1, 1, {1: float("nan")})
        return await refused(stub.ReportEpisodes(request, timeout=SECONDS))

    status = call(server, talk)
    assert status.code == Code.INVALID_ARGUMENT
    assert status.violations[0].field == "episodes[0].episode.episode_return"


@pytest.mark.parametrize("rpc", ["Register", "PushTrajectories", "WatchRun"])
def test_bytes_that_are_no_message(serve, rpc):
    server = serve()

    async def talk():
        async with open_channel(server.address) as channel:
            call = channel.unary_stream if rpc == "WatchRun" else channel.unary_unary
            answer = call(f"/{SERVICE_NAME}/{rpc}")(b"\xff" * 9, timeout=SECONDS)
            return await refused(answer.read() if rpc == "WatchRun" else answer)

    status = asyncio.run(talk())
    assert (status.code, status.reason) == (Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST)


def test_a_defect_is_internal_and_tells_nothing(serve, monkeypatch):
    server = serve()
    open_round(server)

    async def talk(stub):
        news = await join(stub)
        with server.locked() as coordinator:
            monkeypatch.setattr(coordinator._collection.checks, "segment", secret)
        push = good_push(news.grants[0].grant_id)
        status = await refused(stub.PushTrajectories(push, timeout=SECONDS))
        monkeypatch.undo()
        return status, (await stub.PushTrajectories(push, timeout=SECONDS)).verdict

    def secret(_):
        raise KeyError("/secret/path")

    status, verdict = call(server, talk)
    assert (status.code, status.reason) == (Code.INTERNAL, Reason.DEFECT)
    assert "secret" not in str(status)
    assert verdict == learner_pb2.VERDICT_ACCEPTED
