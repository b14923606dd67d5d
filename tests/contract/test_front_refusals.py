"""Who is refused by a real server, with which code, reason and remedy."""

import pytest
from front_server import SECONDS, call, refused
from front_support import (
    COLUMNS,
    SPEC,
    A,
    good_push,
    pull_request,
    register_request,
    report_request,
)

from common import spaces, specs
from common.errors import Reason
from common.statuses import Code
from learner.experience.columns import fragment_bytes
from learner.front.settings import Limits
from protos.wiserl.v1 import learner_pb2

B = "sampler-b"


@pytest.mark.parametrize("rpc", ["Register", "PullWeights", "PushTrajectories", "ReportEpisodes"])
def test_another_run(serve, rpc):
    server = serve()
    requests = {
        "Register": register_request(A, run_id="run-2"),
        "PullWeights": pull_request(A, run_id="run-2"),
        "PushTrajectories": learner_pb2.PushTrajectoriesRequest(run_id="run-2"),
        "ReportEpisodes": learner_pb2.ReportEpisodesRequest(),
    }
    status = call(server, lambda stub: refused(getattr(stub, rpc)(requests[rpc], timeout=SECONDS)))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, Reason.RUN_CHANGED)


@pytest.mark.parametrize("rpc", ["PullWeights", "PushTrajectories", "ReportEpisodes"])
def test_an_unknown_sampler(serve, rpc):
    server = serve()
    requests = {
        "PullWeights": pull_request(A),
        "PushTrajectories": good_push(1),
        "ReportEpisodes": report_request(A, 1, 1, {}),
    }
    status = call(server, lambda stub: refused(getattr(stub, rpc)(requests[rpc], timeout=SECONDS)))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, Reason.UNKNOWN_SAMPLER)


def registrations(serve, *requests, refuse=None, **settings):
    """What these registrations, one after the other, are answered: the last one's status."""
    server = serve(**settings)
    if refuse:
        with server.locked() as coordinator:
            coordinator.refuse_environment(refuse)

    async def talk(stub):
        for request in requests[:-1]:
            await stub.Register(request, timeout=SECONDS)
        return await refused(stub.Register(requests[-1], timeout=SECONDS))

    return call(server, talk)


def test_another_protocol_version(serve):
    status = registrations(serve, register_request(A, protocol_version=2))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, Reason.PROTOCOL_MISMATCH)


def test_another_spec(serve):
    other = specs.single_agent(SPEC.agent.observation, spaces.Discrete(3))
    status = registrations(
        serve, register_request(A), register_request(B, spec=specs.to_proto(other))
    )
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, Reason.SPEC_MISMATCH)
    assert "n=3" in status.message


def test_an_unsupported_environment(serve):
    status = registrations(serve, register_request(A), refuse="use PPO", is_open=False)
    expected = (Code.FAILED_PRECONDITION, Reason.ENVIRONMENT_UNSUPPORTED, "use PPO")
    assert (status.code, status.reason, status.message) == expected


def test_a_malformed_registration(serve):
    status = registrations(serve, register_request(A, slots=0))
    assert (status.code, status.reason) == (Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST)
    assert status.violations[0].field == "slots"


def test_a_fragment_above_the_limit(serve):
    limit = fragment_bytes(COLUMNS, 1000)
    limits = Limits(max_message_bytes=limit)
    status = registrations(serve, register_request(A), rows=1000, limits=limits)
    assert (status.code, status.reason) == (Code.RESOURCE_EXHAUSTED, Reason.TOO_LARGE)
    assert status.retry_seconds is None


def test_no_memory_for_pushes(serve):
    status = registrations(serve, register_request(A), limits=Limits(push_budget_bytes=10))
    assert (status.code, status.reason) == (Code.RESOURCE_EXHAUSTED, Reason.NO_ROOM)
    assert status.retry_seconds is None


def test_a_message_above_the_transport_limit(serve):
    server = serve(limits=Limits(max_message_bytes=8 << 10))

    async def talk(stub):
        request = register_request(A, name="n" * (16 << 10))
        return await refused(stub.Register(request, timeout=SECONDS))

    status = call(server, talk)
    assert status.code == Code.RESOURCE_EXHAUSTED
    assert status.retry_seconds is None
