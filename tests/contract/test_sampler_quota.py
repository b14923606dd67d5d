"""A sampler that sends too much, over real sockets: told to wait, and it does."""

from front_server import SECONDS, call, refused
from front_support import (
    A,
    B,
    Part,
    make_batch,
    publication,
    pull_request,
    push_request,
)
from front_support import register_request as registration

from common.errors import Reason
from common.statuses import Code
from learner.front.settings import Limits
from protos.wiserl.v1 import learner_pb2
from sampler.client import LearnerClient

ACCEPTED = learner_pb2.VERDICT_ACCEPTED


def push_of(sampler, sequence, grant_id, slot):
    return push_request(sampler, sequence, grant_id, make_batch(1, [Part(slot)]))


def size_of_a_push():
    return len(push_of(A, 1, 1, 0).SerializeToString())


async def granted(server, stub, *samplers):
    """Registers samplers; answers their grants."""
    for sampler in samplers:
        await stub.Register(registration(sampler), timeout=SECONDS)
    with server.locked() as coordinator:
        coordinator.publish(publication(1))
        coordinator.open_round(server.now(), n_envs=4, n_steps=2)
    found = []
    for sampler in samplers:
        answer = await stub.PullWeights(pull_request(sampler), timeout=SECONDS)
        found += [grant.grant_id for grant in answer.grants]
    return found


def test_who_sends_too_much_is_told_when_to_come_again_and_others_are_not(serve):
    """A push is worth ten seconds here, nine of which it overdraws."""
    rate = size_of_a_push() // 10
    server = serve(limits=Limits(bytes_per_second=rate))

    async def talk(stub):
        first, second = await granted(server, stub, A, B)
        verdicts = [(await stub.PushTrajectories(push_of(A, 1, first, 0), timeout=SECONDS)).verdict]
        status = await refused(stub.PushTrajectories(push_of(A, 2, first, 1), timeout=SECONDS))
        # A duplicate is as many bytes.
        again = await refused(stub.PushTrajectories(push_of(A, 1, first, 0), timeout=SECONDS))
        other = await stub.PushTrajectories(push_of(B, 1, second, 0), timeout=SECONDS)
        return status, again, [*verdicts, other.verdict]

    status, again, verdicts = call(server, talk)
    for each in (status, again):
        assert (each.code, each.reason) == (Code.RESOURCE_EXHAUSTED, Reason.OVER_QUOTA)
        assert 0 < each.retry_seconds < 9.5
    assert f"{rate} bytes a second" in status.message
    assert verdicts == [ACCEPTED, ACCEPTED]


def test_the_sampler_s_client_waits_and_nothing_is_lost(serve):
    server = serve(limits=Limits(bytes_per_second=4 * size_of_a_push()))

    async def talk(stub):
        (grant, _) = await granted(server, stub, A, B)
        client = LearnerClient(server.address)
        try:
            await client.get_run()
            calls, verdicts = client.record.calls, []
            # Bytes that count, and rows that do not, until they are too many.
            while not calls["PushTrajectories", "RESOURCE_EXHAUSTED"]:
                verdicts.append((await client.push(push_of(A, 1, grant, 0))).verdict)
            verdicts.append((await client.push(push_of(A, 2, grant, 1))).verdict)
        finally:
            await client.close()
        return verdicts, calls["PushTrajectories", "OK"]

    verdicts, answered = call(server, talk)
    duplicates = [learner_pb2.VERDICT_DUPLICATE] * (answered - 2)
    assert len(duplicates) >= 4
    assert verdicts == [ACCEPTED, *duplicates, ACCEPTED]
    with server.locked() as coordinator:
        assert not any(coordinator.ledger.metrics().values())
