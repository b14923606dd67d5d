"""The supervisor with a pool that has no environments, against a learner over real gRPC."""

import asyncio
import os
import signal
import threading

import pytest
from fake_learner import (
    NEVER,
    FakeLearner,
    Refuse,
    registration,
    remembers,
    run_of,
    serving,
    weights,
)
from fake_pool import FakePool
from processes import free_port

from common.statuses import Code
from protos.wiserl.v1 import grant_pb2, learner_pb2
from sampler.exits import ExitCode, SamplerStopError
from sampler.lifetime import Lifetime
from sampler.options import SamplerOptions
from sampler.pool import PoolError, PoolFailed, WorkerLost


def round_of(fragments, grant_id=10, version=1, slots=None):
    grant = grant_pb2.Grant(grant_id=grant_id)
    grant.collect.rows, grant.collect.version = 4, version
    grant.collect.finite.fragments = fragments
    grant.collect.finite.slots = slots or fragments
    return grant


def evaluation(version, seeds, grant_id=20):
    evaluate = grant_pb2.EvaluateGrant(evaluation_id=1, version=version, seeds=seeds)
    return grant_pb2.Grant(grant_id=grant_id, evaluate=evaluate)


FINISH = grant_pb2.Grant(grant_id=99, finish=grant_pb2.FinishGrant(reason="done"))
OVER = weights(revision=99, grants=[FINISH])


def verdict(name):
    return learner_pb2.PushTrajectoriesResponse(verdict=learner_pb2.Verdict.Value(name))


def after(learner, method, count, answer):
    """`answer`, as soon as `method` was asked `count` times."""

    async def wait(request):
        await learner.asked(method, count)
        return answer

    return wait


def sample(learner, *, make_pool=FakePool, workers=2, envs_per_worker=2):
    """Runs a sampler against a learner in one loop; its exit code and its pools."""
    pools = []

    def make(config):
        pools.append(make_pool(config))
        return pools[-1]

    async def work():
        async with serving(learner) as address:
            options = SamplerOptions(
                learner=address, workers=workers, envs_per_worker=envs_per_worker, name="test"
            )
            return await Lifetime(options, make).run()

    return asyncio.run(work()), pools


def pulls(learner):
    return learner.requests["PullWeights"]


def pushed(learner):
    return [
        (push.sequence, push.grant_id, [part.slot for part in push.batch.slots])
        for push in learner.requests["PushTrajectories"]
    ]


def test_a_run_from_start_to_finish():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [
        weights(grants=[round_of(4)]),
        after(learner, "PushTrajectories", 1, weights(2, b"newer", 2, [round_of(2, 11, 2)])),
        after(learner, "PushTrajectories", 2, OVER),
        weights(),
    ]
    code, (pool,) = sample(learner)
    assert code == ExitCode.FINISHED
    assert pool.closed
    assert pool.policies == [(1, b"model"), (2, b"newer")]
    assert pushed(learner) == [(1, 10, [0, 2, 1, 3]), (2, 11, [0, 1])]
    # Each pull says what the sampler has; the last one is the farewell.
    said = [(p.have_version, p.have_grants_revision, p.leaving) for p in pulls(learner)]
    assert said == [(0, 0, False), (1, 1, False), (2, 2, False), (2, 99, True)]
    assert pulls(learner)[-1].progress.rows_rolled == 4 * 6


def test_pulls_go_on_and_report_progress_while_it_rolls():
    learner = FakeLearner()
    same = weights(grants=[round_of(4)])
    learner.answers["PullWeights"] = [
        same,
        after(learner, "PushTrajectories", 1, same),
        same,
        OVER,
        weights(),
    ]
    assert sample(learner)[0] == ExitCode.FINISHED
    assert [p.progress.rows_rolled for p in pulls(learner)] == [0, 16, 16, 16, 16]
    assert len(pushed(learner)) == 1


def test_evaluations_are_reported():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [
        weights(version=3, grants=[evaluation(3, [5, 6, 7])]),
        after(learner, "ReportEpisodes", 2, OVER),
        weights(),
    ]
    assert sample(learner)[0] == ExitCode.FINISHED
    reports = learner.requests["ReportEpisodes"]
    assert {(r.grant_id, r.evaluation_id, r.version) for r in reports} == {(20, 1, 3)}
    assert sorted(e.seed for report in reports for e in report.episodes) == [5, 6, 7]


def test_a_version_that_is_gone_is_asked_for_once():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [
        weights(version=3, grants=[evaluation(2, [5])]),
        Refuse(Code.NOT_FOUND, "VERSION_GONE"),
        OVER,
        weights(),
    ]
    assert sample(learner)[0] == ExitCode.FINISHED
    assert [pull.version for pull in pulls(learner)] == [0, 2, 0, 0]
    assert learner.requests["ReportEpisodes"] == []


def test_a_forgotten_sampler_registers_again_with_its_index():
    learner = FakeLearner()
    learner.answers["Register"] = [registration(index=3), registration(index=3, last_sequence=0)]
    learner.answers["PushTrajectories"] = [
        Refuse(Code.FAILED_PRECONDITION, "UNKNOWN_SAMPLER"),
        verdict("VERDICT_ACCEPTED"),
    ]
    learner.answers["PullWeights"] = [
        weights(grants=[round_of(1)]),
        after(learner, "Register", 2, NEVER),
        weights(grants=[round_of(1, 11)]),
        after(learner, "PushTrajectories", 2, OVER),
        weights(),
    ]
    code, pools = sample(learner)
    assert code == ExitCode.FINISHED
    assert len(pools) == 1
    first, second = learner.requests["Register"]
    assert not first.HasField("previous_index")
    assert second.previous_index == 3
    assert first.sampler_id == second.sampler_id
    # The sequence of the push that was lost is left out.
    assert pushed(learner) == [(1, 10, [0]), (2, 11, [0])]


def restarted(first, second, ready):
    """Runs a sampler against a learner, and when that is `ready` against another in its place.

    Its exit code, its pools and the port, which stays the same.
    """
    pools = []

    def make(config):
        pools.append(FakePool(config))
        return pools[-1]

    async def work():
        port = free_port()
        options = SamplerOptions(learner=f"127.0.0.1:{port}", workers=2, envs_per_worker=2)
        async with serving(first, port):
            life = asyncio.create_task(Lifetime(options, make).run())
            await ready(first)
        async with serving(second, port):
            return await life

    return asyncio.run(work()), pools


def window_of(fragments, grant_id, version=1):
    grant = grant_pb2.Grant(grant_id=grant_id)
    grant.collect.rows, grant.collect.version, grant.collect.or_newer = 4, version, True
    grant.collect.window.fragments = fragments
    return grant


def resumed_learner(last_sequence):
    """A learner of the same run in a new process: it knows no sampler, but sequences."""
    learner = FakeLearner()
    learner.answers["GetRun"] = [run_of(wait_milliseconds=100)]
    learner.answers["Register"] = [registration(index=3, last_sequence=last_sequence)]
    learner.answers["PushTrajectories"] = [remembers(learner, verdict("VERDICT_ACCEPTED"))]
    answers = iter(
        [
            weights(7, grants=[window_of(4, 20, version=7)]),
            after(learner, "PushTrajectories", 3, OVER),
        ]
    )

    def pulled(request):
        if request.leaving:
            return weights()
        answer = next(answers)
        return answer(request) if callable(answer) else answer

    learner.answers["PullWeights"] = [remembers(learner, pulled)]
    return learner


@pytest.mark.parametrize(("counted", "dropped"), [(0, 16), (1, 0)])
def test_a_learner_that_is_restarted_in_the_middle_of_a_push(counted, dropped):
    first, second = FakeLearner(), resumed_learner(last_sequence=counted)
    first.answers["Register"] = [registration(index=3)]
    first.answers["PushTrajectories"] = [NEVER]
    first.answers["PullWeights"] = [weights(grants=[window_of(4, 10)]), NEVER]

    async def held(learner):
        await learner.asked("PushTrajectories", 1)
        await learner.asked("PullWeights", 2)

    code, pools = restarted(first, second, held)
    assert code == ExitCode.FINISHED
    # The environments are the same, and so is the sampler.
    assert len(pools) == 1
    (before,), (after_it,) = first.requests["Register"], second.requests["Register"]
    assert after_it.previous_index == 3
    assert after_it.sampler_id == before.sampler_id
    # The push in flight was tried again as it was; then its sequence is left out.
    (lost,) = pushed(first)
    fresh = [push for push in pushed(second) if push != lost]
    assert [sequence for sequence, _, _ in fresh[:2]] == [2, 3]
    assert {grant for _, grant, _ in fresh} == {20}
    # Rows that the former process took, and told the next one of, are not lost.
    told = [p.progress.rows_dropped for p in pulls(second) if p.have_version == 7]
    assert told[0] == dropped
    assert all(pull.wait_milliseconds == 100 for pull in pulls(second)[-2:-1])


def test_a_learner_that_is_restarted_in_the_middle_of_a_pull():
    first, second = FakeLearner(), resumed_learner(last_sequence=2)
    first.answers["Register"] = [registration(index=3)]
    granted = weights(grants=[round_of(4)])

    def until_its_push_is_answered(request):
        return granted if request.pushing_sequence else NEVER

    first.answers["PullWeights"] = [
        granted,
        after(first, "PushTrajectories", 1, granted),
        until_its_push_is_answered,
    ]

    async def waiting(learner):
        while len(pulls(learner)) < 3 or pulls(learner)[-1].pushing_sequence:
            await learner.asked("PullWeights", len(pulls(learner)) + 1)

    code, pools = restarted(first, second, waiting)
    assert code == ExitCode.FINISHED
    assert len(pools) == 1
    assert second.calls[0] == "PullWeights"
    assert second.calls.index("GetRun") < second.calls.index("Register")
    assert pushed(second)[0][0] == 3


def test_a_push_of_before_that_the_learner_still_takes():
    """A connection that broke, or a learner whose sessions outlived its sockets."""
    first, second = FakeLearner(), FakeLearner()
    first.answers["PushTrajectories"] = [NEVER]
    first.answers["PullWeights"] = [weights(grants=[round_of(8, slots=4)]), NEVER]
    second.answers["PushTrajectories"] = [verdict("VERDICT_DUPLICATE")]
    second.answers["PullWeights"] = [after(second, "PushTrajectories", 2, OVER), weights()]

    async def held(learner):
        await learner.asked("PushTrajectories", 1)

    assert restarted(first, second, held)[0] == ExitCode.FINISHED
    assert second.requests["Register"] == []
    assert pushed(second)[0] == pushed(first)[0]
    assert [sequence for sequence, _, _ in pushed(second)] == [1, 2]


def test_a_learner_that_drains_and_comes_back():
    first, draining, second = FakeLearner(), FakeLearner(), resumed_learner(last_sequence=0)
    first.answers["Register"] = [registration(index=3)]
    first.answers["PullWeights"] = [weights(grants=[window_of(4, 10)]), NEVER]
    for method in first.answers:
        draining.answers[method] = [Refuse(Code.UNAVAILABLE, "DRAINING")]

    async def turns_away(learner):
        await learner.asked("PushTrajectories", 1)
        learner.answers.update(draining.answers)
        await learner.asked("PushTrajectories", len(learner.requests["PushTrajectories"]) + 2)

    code, pools = restarted(first, second, turns_away)
    assert code == ExitCode.FINISHED
    assert len(pools) == 1
    assert second.requests["Register"][0].previous_index == 3


@pytest.mark.parametrize(("environment", "built"), [("Fake-v0", 1), ("Other-v0", 2)])
def test_another_run_is_started_over(environment, built):
    learner = FakeLearner()
    learner.answers["GetRun"] = [run_of(), run_of("run-2", environment)]
    learner.answers["PullWeights"] = [
        Refuse(Code.FAILED_PRECONDITION, "RUN_CHANGED"),
        OVER,
        weights(),
    ]
    code, pools = sample(learner)
    assert code == ExitCode.FINISHED
    assert [request.run_id for request in learner.requests["Register"]] == ["run-1", "run-2"]
    assert [pool.config.environment.id for pool in pools] == ["Fake-v0", environment][:built]
    assert all(pool.closed for pool in pools)


def test_refused_again_and_again():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [weights(grants=[round_of(1)]), NEVER, weights()]
    learner.answers["PushTrajectories"] = [Refuse(Code.INVALID_ARGUMENT, message="a NaN reward")]
    with pytest.raises(SamplerStopError, match=r"refused 5 times in 60 s, .*a NaN reward") as stop:
        sample(learner, workers=1, envs_per_worker=1)
    assert stop.value.exit_code == ExitCode.DATA_REFUSED
    assert [sequence for sequence, _, _ in pushed(learner)] == [1, 2, 3, 4, 5]
    assert pulls(learner)[-1].leaving


def test_the_environment_cannot_be_built():
    def fails(config):
        raise PoolError("no environment Fake-v0")

    with pytest.raises(SamplerStopError, match="no environment Fake-v0") as stop:
        sample(FakeLearner(), make_pool=fails)
    assert stop.value.exit_code == ExitCode.ENVIRONMENT


def test_another_protocol():
    learner = FakeLearner()
    learner.answers["GetRun"][0].protocol_version = 2
    with pytest.raises(SamplerStopError, match="speaks protocol version 2") as stop:
        sample(learner)
    assert stop.value.exit_code == ExitCode.REFUSED


class Sick(FakePool):
    """Loses a worker with its task, then gives up."""

    def submit(self, worker, task):
        if len(self.submitted) == 0:
            self.happen(WorkerLost(worker, "SIGSEGV", 3, (task.task_id,)))
        else:
            self.happen(PoolFailed("workers crashed 5 times in 60 s"))
        self.submitted.append(task)


def test_a_pool_that_gives_up():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [weights(grants=[round_of(1)]), NEVER, weights()]
    with pytest.raises(SamplerStopError, match="workers crashed 5 times") as stop:
        sample(learner, make_pool=Sick)
    assert stop.value.exit_code == ExitCode.WORKERS_FAILED


class Hanging(FakePool):
    """Hangs in its first task without a sign; that is noticed only when its deadline has passed."""

    def submit(self, worker, task):
        self.submitted.append(task)
        if len(self.submitted) > 1:
            self.happen(self.done(worker, task))

    def next_timeout(self):
        return 0.001 if len(self.submitted) == 1 else None

    def events(self):
        if len(self.submitted) == 1:
            return [WorkerLost(0, "hangs", 0, (self.submitted[0].task_id,))]
        return super().events()


def test_a_worker_that_hangs_is_noticed():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [
        weights(grants=[round_of(1)]),
        after(learner, "PushTrajectories", 1, OVER),
        weights(),
    ]
    code, (pool,) = sample(learner, make_pool=Hanging)
    assert code == ExitCode.FINISHED
    assert [task.slots for task in pool.submitted] == [(0,), (0,)]


class Broken(FakePool):
    def events(self):
        raise ZeroDivisionError


def test_a_defect_ends_the_sampler_with_its_traceback():
    learner = FakeLearner()
    learner.answers["PullWeights"] = [weights(grants=[round_of(1)]), NEVER, weights()]
    with pytest.raises(ZeroDivisionError):
        sample(learner, make_pool=Broken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number):
    learner = FakeLearner()

    async def answer_after_the_signal(request):
        os.kill(os.getpid(), number)
        # Only the farewell pull is still to come, and it waits for this answer.
        await asyncio.sleep(0)
        return verdict("VERDICT_ACCEPTED")

    learner.answers["PullWeights"] = [weights(grants=[round_of(4, slots=2)]), NEVER, weights()]
    learner.answers["PushTrajectories"] = [answer_after_the_signal]
    code, (pool,) = sample(learner)
    assert code == 128 + number
    assert pool.closed
    # The push in flight was the last one; what waited behind it was dropped.
    assert pushed(learner) == [(1, 10, [0, 1])]
    assert learner.calls[-1] == "PullWeights"
    assert pulls(learner)[-1].leaving
    assert pulls(learner)[-1].progress.rows_dropped == 8


def test_a_signal_before_there_is_a_session():
    learner = FakeLearner()

    async def no_answer(request):
        os.kill(os.getpid(), signal.SIGTERM)
        return NEVER

    learner.answers["Register"] = [no_answer]
    code, (pool,) = sample(learner)
    assert code == 128 + signal.SIGTERM
    assert pool.closed
    assert learner.calls == ["GetRun", "Register"]


def test_a_signal_while_the_environments_are_built():
    never, pools = threading.Event(), []

    def make_pool(config):
        os.kill(os.getpid(), signal.SIGTERM)
        never.wait()
        pools.append(FakePool(config))
        return pools[-1]

    learner = FakeLearner()
    assert sample(learner, make_pool=make_pool)[0] == 128 + signal.SIGTERM
    assert learner.calls == ["GetRun"]
    assert pools == []
    never.set()


def test_a_push_that_is_held_does_not_hold_the_drain(monkeypatch):
    monkeypatch.setattr("sampler.session.PUSH_DRAIN_SECONDS", 0.05)
    learner = FakeLearner()

    async def hold(request):
        os.kill(os.getpid(), signal.SIGTERM)
        return NEVER

    learner.answers["PullWeights"] = [weights(grants=[round_of(1)]), NEVER, weights()]
    learner.answers["PushTrajectories"] = [hold]
    assert sample(learner)[0] == 128 + signal.SIGTERM
    assert pulls(learner)[-1].leaving
