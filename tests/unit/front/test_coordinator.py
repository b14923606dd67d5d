"""The coordinator: refusals leave nothing behind, and registration takes only what it can serve."""

import dataclasses

import pytest
from front_malformed import MALFORMED
from front_support import (
    COLUMNS,
    RUN,
    SPEC,
    A,
    B,
    Part,
    good_push,
    make_batch,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    pushed,
    register_request,
    report_request,
)

from common import signature, spaces, specs
from common.errors import Reason
from common.statuses import Code
from learner.experience.columns import fragment_bytes
from learner.front.refusals import Refusal
from learner.front.settings import Limits
from learner.header import MappedHeader
from learner.ledger import Loss, LossReason
from learner.totals import MemoryHeader
from protos.wiserl.v1 import learner_pb2


def collecting(**settings):
    """A coordinator whose sampler a has a grant of two fragments of two rows, and its id."""
    coordinator = make_coordinator(**settings)
    coordinator.register(0.0, register_request(A))
    coordinator.publish(publication(1))
    coordinator.open_round(0.0, n_envs=2, n_steps=2)
    response = coordinator.pull(0.0, pull_request(A), since=0.0)
    return coordinator, response.grants[0].grant_id


def sequence_of(coordinator):
    return coordinator._sessions.get(A).last_sequence


def refusal_of(call):
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value


def trace(coordinator):
    """Everything that a push may change, but for its sequence and the count of refusals."""
    store, current = coordinator._collection.rounds._store, coordinator._dealer.round
    session = coordinator._sessions.get(A)
    return (
        coordinator.environment_steps,
        session.environment_steps,
        dict(session.lives),
        session.grants_revision,
        current.delivered,
        [[list(slot) for slot in grant.pending] for grant in current._grants.values()],
        list(store._keys),
        list(store._segments),
    )


@pytest.mark.parametrize("name", MALFORMED)
def test_a_refused_push_leaves_nothing_behind(name):
    spoil, field = MALFORMED[name]
    coordinator, grant = collecting()
    request = good_push(grant)
    spoil(request)
    before = trace(coordinator)
    refusal = refusal_of(lambda: pushed(coordinator, 1.0, request))
    assert (refusal.code, refusal.field) == (Code.INVALID_ARGUMENT, field)
    assert trace(coordinator) == before
    assert pushed(coordinator, 1.0, good_push(grant, 2)).verdict == learner_pb2.VERDICT_ACCEPTED
    assert coordinator.closed_round().steps == 4


@pytest.mark.parametrize("name", sorted(set(MALFORMED) - {"no sequence"}))
def test_a_refused_push_is_counted_once(name):
    coordinator, grant = collecting()
    request = good_push(grant)
    MALFORMED[name][0](request)
    first = refusal_of(lambda: pushed(coordinator, 1.0, request))
    assert refusal_of(lambda: pushed(coordinator, 1.0, request)) is first
    assert coordinator.ledger[LossReason.REFUSED].pushes == 1


def test_the_unspoiled_push_is_accepted():
    coordinator, grant = collecting()
    assert pushed(coordinator, 1.0, good_push(grant)).verdict == learner_pb2.VERDICT_ACCEPTED
    assert pushed(coordinator, 1.0, good_push(grant)).verdict == learner_pb2.VERDICT_DUPLICATE
    assert coordinator.closed_round().steps == 4
    assert coordinator.environment_steps == 4


def test_a_defect_is_no_final_answer(monkeypatch):
    """A push that met a defect of the learner may be sent again, and then counts."""
    coordinator, grant = collecting()
    with monkeypatch.context() as patch:
        patch.setattr(coordinator._collection.checks, "segment", lambda batch: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            pushed(coordinator, 1.0, good_push(grant))
    assert pushed(coordinator, 1.0, good_push(grant)).verdict == learner_pb2.VERDICT_ACCEPTED


def test_more_slots_than_registered_for_a_push():
    coordinator = make_coordinator()
    coordinator.register(0.0, register_request(A, max_slots_per_push=1))
    coordinator.publish(publication(1))
    coordinator.open_round(0.0, n_envs=2, n_steps=2)
    refusal = refusal_of(lambda: pushed(coordinator, 1.0, good_push(1)))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, Reason.TOO_LARGE)
    assert refusal.retry_seconds is None
    for sequence, slot in ((2, 0), (3, 1)):
        request = push_request(A, sequence, 1, make_batch(1, [Part(slot)]))
        assert pushed(coordinator, 1.0, request).verdict == learner_pb2.VERDICT_ACCEPTED
    assert coordinator.closed_round() is not None


def test_rows_of_a_slot_are_never_taken_twice():
    """Not under a new sequence either, nor rows of an older copy of the environment."""
    coordinator = make_coordinator()
    coordinator.register(0.0, register_request(A, 1))
    coordinator.publish(publication(1))
    coordinator.open_round(0.0, n_envs=4, n_steps=2)
    accepted = push_request(A, 1, 1, make_batch(1, [Part(0, 4, 1)]))
    assert pushed(coordinator, 0.0, accepted).verdict == learner_pb2.VERDICT_ACCEPTED
    for part, field in (
        (Part(0, 4, 1), "batch.slots[0].first_row"),
        (Part(0, 5, 1), "batch.slots[0].first_row"),
        (Part(0, 9, 0), "batch.slots[0].incarnation"),
    ):
        again = push_request(A, sequence_of(coordinator) + 1, 1, make_batch(1, [part]))
        assert refusal_of(lambda again=again: pushed(coordinator, 0.0, again)).field == field
    for part in (Part(0, 6, 1), Part(0, 100, 1), Part(0, 0, 2)):
        request = push_request(A, sequence_of(coordinator) + 1, 1, make_batch(1, [part]))
        assert pushed(coordinator, 0.0, request).verdict == learner_pb2.VERDICT_ACCEPTED


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({"run_id": "run-2"}, Code.FAILED_PRECONDITION, Reason.RUN_CHANGED, ""),
        ({"run_id": ""}, Code.FAILED_PRECONDITION, Reason.RUN_CHANGED, ""),
        ({"protocol_version": 2}, Code.FAILED_PRECONDITION, Reason.PROTOCOL_MISMATCH, ""),
        ({"sampler_id": "short"}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "sampler_id"),
        ({"sampler_id": "a" * 65}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "sampler_id"),
        ({"sampler_id": "sampler/1"}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "sampler_id"),
        ({"sampler_id": "sampler-\n"}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "sampler_id"),
        ({"name": "n" * 129}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "name"),
        ({"name": "a\x1b[2J"}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "name"),
        ({"slots": 0}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "slots"),
        ({"slots": 4097}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "slots"),
        (
            {"max_slots_per_push": 0},
            Code.INVALID_ARGUMENT,
            Reason.INVALID_REQUEST,
            "max_slots_per_push",
        ),
        ({"spec": None}, Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, "spec.groups"),
    ],
)
@pytest.mark.parametrize("is_open", [True, False])
def test_registrations_that_are_refused(is_open, fields, code, reason, field):
    coordinator = make_coordinator(is_open=is_open)
    request = register_request(A, **fields)
    refusal = refusal_of(lambda: coordinator.register(0.0, request))
    assert (refusal.code, refusal.reason, refusal.field) == (code, reason, field)
    assert coordinator.spec is None
    assert coordinator.samplers == 0


def test_registration_waits_until_the_run_is_open():
    coordinator = make_coordinator(is_open=False)
    assert coordinator.register(0.0, register_request(A)) is None
    assert coordinator.spec == SPEC
    assert coordinator.samplers == 0
    coordinator.open_run(signature.Signature((), (), COLUMNS), fragment_rows=2)
    assert coordinator.register(1.0, register_request(A)).index == 0


def test_every_later_spec_is_held_to_the_first():
    coordinator = make_coordinator()
    coordinator.register(0.0, register_request(A))
    other = specs.single_agent(SPEC.agent.observation, spaces.Discrete(3))
    request = register_request(B, spec=specs.to_proto(other))
    refusal = refusal_of(lambda: coordinator.register(0.0, request))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, Reason.SPEC_MISMATCH)
    assert "n=3" in refusal.message
    assert coordinator.samplers == 1


def test_an_environment_that_the_algorithm_cannot_take():
    coordinator = make_coordinator(is_open=False)
    coordinator.register(0.0, register_request(A))
    coordinator.refuse_environment("DQN needs Discrete actions; use PPO")
    refusal = refusal_of(lambda: coordinator.register(0.0, register_request(A)))
    assert refusal.reason == Reason.ENVIRONMENT_UNSUPPORTED
    assert "use PPO" in str(refusal)


def test_a_fragment_that_fits_into_no_message():
    limits = Limits(max_message_bytes=8192)
    rows = 8192 // fragment_bytes(COLUMNS, 1) + 1
    coordinator = make_coordinator(limits=limits, rows=rows)
    refusal = refusal_of(lambda: coordinator.register(0.0, register_request(A)))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, Reason.TOO_LARGE)
    assert "max_message_bytes (8192)" in refusal.message
    assert coordinator.samplers == 0


def test_memory_for_pushes_is_reserved_and_given_back():
    limits = Limits(push_budget_bytes=12_000)
    coordinator = make_coordinator(limits=limits)
    coordinator.register(0.0, register_request(A))
    coordinator.register(0.0, register_request(B))
    refusal = refusal_of(lambda: coordinator.register(0.0, register_request("sampler-c")))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, Reason.NO_ROOM)
    assert refusal.retry_seconds is None
    assert "push_budget_bytes (12000)" in refusal.message
    # One that is there may register again, and one that leaves makes room.
    assert coordinator.register(0.0, register_request(A)).index == 0
    coordinator.pull(0.0, pull_request(B, leaving=True), since=0.0)
    assert coordinator.register(0.0, register_request("sampler-c")).index == 1


@pytest.mark.parametrize("call", ["pull", "report", "push"])
def test_other_runs_and_unknown_samplers(call):
    coordinator, grant = collecting()

    def send(**fields):
        if call == "pull":
            return coordinator.pull(0.0, pull_request(A, **fields), since=0.0)
        request = good_push(grant) if call == "push" else report_request(A, 1, 1, {1: 1.0})
        for name, value in fields.items():
            setattr(request, name, value)
        return (
            coordinator.report(0.0, request)
            if call == "report"
            else pushed(coordinator, 0.0, request)
        )

    changed = refusal_of(lambda: send(run_id="run-2"))
    unknown = refusal_of(lambda: send(sampler_id="sampler-z"))
    assert (changed.code, changed.reason) == (Code.FAILED_PRECONDITION, Reason.RUN_CHANGED)
    assert RUN in changed.message
    assert (unknown.code, unknown.reason) == (Code.FAILED_PRECONDITION, Reason.UNKNOWN_SAMPLER)


def test_a_report_with_an_infinite_return_files_nothing():
    coordinator, _ = collecting()
    evaluation = coordinator.start_evaluation(0.0, [1, 2])
    request = report_request(A, evaluation, 1, {1: 1.0, 2: float("nan")})
    refusal = refusal_of(lambda: coordinator.report(0.0, request))
    assert refusal.field == "episodes[1].episode.episode_return"
    assert coordinator.report(0.0, report_request(A, evaluation, 1, {1: 1.0})).accepted == 1


def test_a_pull_from_before_the_registration_ends():
    """It may still wait where its sampler has registered anew, and must not answer in its place."""
    coordinator, _ = collecting()
    coordinator.register(5.0, register_request(A))
    refusal = refusal_of(lambda: coordinator.pull(6.0, pull_request(A), since=4.0))
    assert (refusal.code, refusal.reason) == (Code.CANCELLED, Reason.SUPERSEDED)


def test_a_pull_waits_no_longer_than_the_limit():
    coordinator, _ = collecting()
    known = coordinator.pull(0.0, pull_request(A), since=0.0)
    request = pull_request(
        A,
        have_version=known.version,
        have_grants_revision=known.grants_revision,
        wait_milliseconds=60_000,
    )
    assert coordinator.pull(11.9, request, since=10.0) is None
    assert coordinator.pull(12.0, request, since=10.0).grants == known.grants
    request.wait_milliseconds = 0
    assert coordinator.pull(12.0, request, since=12.0) is not None


def test_versions_and_rounds_in_their_order():
    coordinator = make_coordinator()
    with pytest.raises(ValueError, match="publish"):
        coordinator.open_round(0.0, n_envs=1, n_steps=2)
    with pytest.raises(ValueError, match="published"):
        coordinator.start_evaluation(0.0, [1])
    coordinator.publish(publication(3))
    for version in (3, 2):
        with pytest.raises(ValueError, match="backwards"):
            coordinator.publish(publication(version))
    coordinator.open_round(0.0, n_envs=1, n_steps=2)
    with pytest.raises(ValueError, match="still open"):
        coordinator.open_round(0.0, n_envs=1, n_steps=2)
    coordinator.register(0.0, register_request(A))
    pushed(coordinator, 0.0, push_request(A, 1, 1, make_batch(3, [Part(0)])))
    with pytest.raises(ValueError, match="not taken"):
        coordinator.open_round(0.0, n_envs=1, n_steps=2)


def test_a_run_opens_once_and_counts_valid_steps():
    coordinator = make_coordinator()
    with pytest.raises(ValueError, match="open already"):
        coordinator.open_run(signature.Signature((), (), COLUMNS), fragment_rows=2)
    with pytest.raises(ValueError, match="valid"):
        make_coordinator(is_open=False).open_run(
            signature.Signature((), (), COLUMNS[:3]), fragment_rows=2
        )


def test_what_the_header_keeps_goes_on_in_the_next_process():
    header = MemoryHeader()
    coordinator, grant = collecting(header=header)
    pushed(coordinator, 0.0, good_push(grant))
    totals = dataclasses.replace(header.totals, restarts=1)
    resumed = make_coordinator(header=MemoryHeader(totals))
    response = resumed.register(0.0, register_request(A))
    assert response.last_sequence == 1
    assert resumed.environment_steps == 4
    assert response.incarnation_base > 0


def test_a_first_push_that_a_restart_lost_is_counted_once(tmp_path):
    path = tmp_path / "header.bin"
    killed = MappedHeader.create(path)
    collecting(header=killed)
    killed._file.close()

    with MappedHeader.open(path) as header:
        coordinator = make_coordinator(header=header)
        with pytest.raises(Refusal, match="register again"):
            pushed(coordinator, 0.0, push_request(A, 1, 1, make_batch(1, [Part(0)])))
        response = coordinator.register(0.0, register_request(A))
        assert response.last_sequence == 1
        assert header.totals.losses == {LossReason.UNKNOWN_SAMPLER: Loss(1, 2)}
        coordinator.publish(publication(1))
        coordinator.open_round(0.0, n_envs=2, n_steps=2)
        (grant,) = coordinator.pull(0.0, pull_request(A), since=0.0).grants
        part = Part(0, incarnation=response.incarnation_base)
        pushed(coordinator, 0.0, push_request(A, 2, grant.grant_id, make_batch(1, [part])))
        assert header.totals.losses == {LossReason.UNKNOWN_SAMPLER: Loss(1, 2)}


def test_the_curve_is_a_mean_of_the_last_hundred_episodes():
    coordinator, grant = collecting()
    pushed(coordinator, 0.0, good_push(grant))
    coordinator.set_metrics({"rollout/ep_rew_mean": 1.0})
    state = coordinator.watch(0.0, learner_pb2.WatchRunRequest(run_id=RUN))
    assert [(point.environment_steps, point.episode_return) for point in state.curve] == [(4, 1.0)]
    assert dict(state.metrics) == {"rollout/ep_rew_mean": 1.0}
    assert not coordinator.watch(0.0, learner_pb2.WatchRunRequest(), after=4).curve


def test_the_journal_tells_of_samplers():
    coordinator, _ = collecting()
    coordinator.tick(100.0)
    assert [note.event for note in coordinator.journal.take()] == [
        "sampler_registered",
        "sampler_lost",
    ]
    assert coordinator.journal.take() == []


def test_a_push_that_never_ends_is_a_stall_after_four_deadlines():
    coordinator, _ = collecting(limits=Limits(push_deadline_milliseconds=5_000))
    coordinator.register(0.0, register_request(B))
    told = pull_request(A, pushing_sequence=1)
    holders = []
    for now in (float(seconds) for seconds in range(2, 34, 2)):
        coordinator.pull(now, told, since=now)
        coordinator.pull(now, pull_request(B), since=now)
        coordinator.tick(now)
        holders.append([session.sampler_id for session in coordinator._sessions if session.grants])
    # Named from 2 s on, so progress until 22 s, and a lease of 6 s after it: given to b at 28 s.
    assert holders == [[A]] * 13 + [[B]] * 3
