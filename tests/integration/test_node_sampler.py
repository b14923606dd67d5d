"""The sampler in JavaScript against a learner that answers what a test says: the contract's rules.

`node --test` beside it has what needs no learner, test_node_sampler_runs.py has whole runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import subprocess

import node_sampler
import numpy as np
import pytest
from fake_learner import NEVER, FakeLearner, Refuse, run_of, served
from leaning_policy import SIGNATURE, publication

from common import signature as signatures
from common import tensors
from common.statuses import Code
from protos.wiserl.v1 import grant_pb2, learner_pb2
from protos.wiserl.v1.signature_pb2 import Role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROWS = 5
ACCEPTED = learner_pb2.PushTrajectoriesResponse(verdict=learner_pb2.VERDICT_ACCEPTED)


def answered(verdict: str) -> learner_pb2.PushTrajectoriesResponse:
    return learner_pb2.PushTrajectoriesResponse(verdict=f"VERDICT_{verdict}")


def round_of(grant_id=10, version=1, fragments=4, slots=4):
    amount = grant_pb2.FiniteAmount(fragments=fragments, slots=slots)
    collect = grant_pb2.CollectGrant(rows=ROWS, version=version, finite=amount)
    return grant_pb2.Grant(grant_id=grant_id, collect=collect)


def window_of(fragments, grant_id=20, version=1):
    amount = grant_pb2.WindowAmount(fragments=fragments)
    collect = grant_pb2.CollectGrant(rows=ROWS, version=version, or_newer=True, window=amount)
    return grant_pb2.Grant(grant_id=grant_id, collect=collect)


def evaluation_of(*seeds, version=1, grant_id=30):
    evaluate = grant_pb2.EvaluateGrant(evaluation_id=3, version=version, seeds=seeds)
    return grant_pb2.Grant(grant_id=grant_id, evaluate=evaluate)


FINISH = grant_pb2.Grant(grant_id=99, finish=grant_pb2.FinishGrant(reason="enough"))


class Learner(FakeLearner):
    """Answers pulls with what `grant` said last, as soon as it is news to the sampler."""

    def __init__(self, *pushes):
        super().__init__()
        self.answers["GetRun"] = [run_of(environment="CartPole-v1")]
        self.answers["Register"] = [self.register]
        self.answers["PullWeights"] = [self.pull]
        if pushes:
            self.answers["PushTrajectories"] = list(pushes)
        self.last_sequence = 0
        self.registered = 0
        self.version, self.revision, self.grants = 1, 0, []

    def grant(self, *grants, version=None):
        self.version = version or self.version
        self.grants, self.revision = list(grants), self.revision + 1

    def register(self, _):
        count = len(self.requests["Register"])
        if count > 1:
            self.grant()
        # Only now may a test grant anything: what it granted before would be forgotten.
        self.registered = count
        return learner_pb2.RegisterResponse(
            signature=signatures.to_proto(SIGNATURE),
            index=5,
            incarnation_base=1000 * count,
            seed=7,
            last_sequence=self.last_sequence if count > 1 else 0,
        )

    async def pull(self, request):
        # What is news is said by another thread.
        while not self.is_news(request):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        version = request.version or self.version
        published = publication(version, lean=float(version))
        return learner_pb2.PullWeightsResponse(
            version=version,
            model=None if request.have_model_sha256 == published.sha256 else published.model,
            model_sha256=published.sha256,
            grants_revision=self.revision,
            grants=self.grants,
        )

    def is_news(self, request):
        known = (request.have_version, request.have_grants_revision)
        return request.leaving or request.version or known != (self.version, self.revision)

    @property
    def pushes(self):
        return self.requests["PushTrajectories"]

    def pushed(self, count):
        self.wait_for(lambda learner: len(learner.pushes) >= count)
        return self.pushes[:count]


@contextlib.contextmanager
def sampling(learner, *flags, envs=4):
    """A sampler at work; it is told to finish, and must do so in good order."""
    with served(learner) as address:
        command = node_sampler.sampler("--learner", address, "--envs", str(envs), *flags)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            yield process
            if process.poll() is None:
                learner.grant(FINISH)
                assert ended(process)[0] == 0
        finally:
            process.kill()
            process.communicate()


def ended(process):
    """Exit code and log of a sampler that ends by itself."""
    _, log = process.communicate(timeout=60)
    return process.returncode, log


def slots(push):
    return [part.slot for part in push.batch.slots]


def column(push, role, key=""):
    (found,) = [
        one.tensor
        for one in push.batch.columns
        if one.role == Role.Value(f"ROLE_{role}") and one.key == key
    ]
    return tensors.decode(found)


def test_its_own_tests_pass():
    command = node_sampler.node("--test", *map(str, node_sampler.EXAMPLE.glob("test/*.test.js")))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout
    assert "# pass 0" not in done.stdout


def test_its_linter_finds_nothing():
    linter = node_sampler.EXAMPLE / "node_modules/eslint/bin/eslint.js"
    done = subprocess.run(
        node_sampler.node(str(linter), "."),
        cwd=node_sampler.EXAMPLE,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "passing",
    [
        Refuse(Code.UNAVAILABLE),
        Refuse(Code.INTERNAL, "DEFECT"),
        Refuse(Code.UNKNOWN),
        Refuse(Code.CANCELLED, "SUPERSEDED"),
        Refuse(Code.RESOURCE_EXHAUSTED, "NO_ROOM", retry_seconds=0.01),
    ],
    ids=lambda refuse: f"{refuse.code.name}-{refuse.reason}",
)
def test_the_same_push_again_until_there_is_an_answer(passing):
    learner = Learner(passing, passing, ACCEPTED)
    with sampling(learner):
        learner.grant(round_of(fragments=8))
        first, second, third, other = learner.pushed(4)
        assert first == second == third
        assert (first.sequence, other.sequence) == (1, 2)
        assert (slots(first), slots(other)) == ([0, 1, 2, 3], [0, 1, 2, 3])


def test_a_deadline_means_the_same_push_again_with_more_time_and_pulls_go_on():
    learner = Learner(NEVER, NEVER, ACCEPTED)
    run = run_of(environment="CartPole-v1", push_deadline_milliseconds=500)
    learner.answers["GetRun"] = [run]
    with sampling(learner):
        learner.grant(round_of())
        learner.pushed(1)
        learner.grant(round_of())
        first, second, third = learner.pushed(3)
        assert first == second == third
        left = learner.seconds_left["PushTrajectories"]
        assert left[2] > 0.5
        assert left[0] < left[2]
        assert 1 in [pull.pushing_sequence for pull in learner.requests["PullWeights"]]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(Code.INVALID_ARGUMENT, "INVALID_REQUEST"), (Code.RESOURCE_EXHAUSTED, "TOO_LARGE")],
)
def test_what_is_refused_is_rolled_again_under_the_next_sequence(code, reason):
    learner = Learner(Refuse(code, reason), ACCEPTED)
    with sampling(learner):
        learner.grant(round_of())
        first, again = learner.pushed(2)
        assert (again.sequence, again.grant_id, slots(again)) == (2, 10, slots(first))
        assert [part.first_row for part in again.batch.slots] == [ROWS] * 4
        learner.grant()
        learner.wait_for(lambda _: learner.requests["PullWeights"][-1].progress.pushes_refused == 1)


def test_refused_again_and_again_it_stops():
    learner = Learner(Refuse(Code.INVALID_ARGUMENT, message="batch.rows: 5, but 7"))
    with sampling(learner) as process:
        learner.grant(round_of())
        code, log = ended(process)
        assert (code, len(learner.pushes)) == (7, 5)
        assert "batch.rows: 5, but 7" in log
        assert learner.requests["PullWeights"][-1].leaving


def test_no_push_is_larger_than_a_message_may_be():
    learner = Learner()
    fragment = 4 * (ROWS + 1) * 4 + ROWS * (8 + 2 * 4 + 4 + 5)
    run = run_of(environment="CartPole-v1", max_message_bytes=4096 + 2 * fragment)
    learner.answers["GetRun"] = [run]
    with sampling(learner):
        learner.grant(round_of())
        pushes = learner.pushed(2)
        assert [push.sequence for push in pushes] == [1, 2]
        assert [slots(push) for push in pushes] == [[0, 1], [2, 3]]


@pytest.mark.parametrize("counted", [True, False])
def test_a_learner_that_forgot_it_finds_it_again(counted):
    learner = Learner(Refuse(Code.FAILED_PRECONDITION, "UNKNOWN_SAMPLER"), ACCEPTED)
    learner.last_sequence = int(counted)
    with sampling(learner):
        learner.grant(round_of())
        learner.wait_for(lambda learner: learner.registered == 2)
        learner.grant(round_of(11))
        before, after = learner.pushed(2)
        assert (before.sequence, after.sequence, after.grant_id) == (1, 2, 11)
        first, second = learner.requests["Register"]
        assert first.sampler_id == second.sampler_id
        assert (first.HasField("previous_index"), second.previous_index) == (False, 5)
        assert {(part.incarnation, part.first_row) for part in after.batch.slots} == {(2000, 0)}
        # A push that the learner counted is not lost.
        progress = learner.requests["PullWeights"][-1].progress
        assert progress.rows_dropped == (0 if counted else 4 * ROWS)


def test_another_run_is_started_over():
    learner = Learner(Refuse(Code.FAILED_PRECONDITION, "RUN_CHANGED"), ACCEPTED)
    learner.answers["GetRun"] += [run_of("run-2", environment="CartPole-v1")]
    with sampling(learner):
        learner.grant(round_of())
        learner.wait_for(lambda learner: learner.registered == 2)
        learner.grant(round_of(11))
        _, push = learner.pushed(2)
        assert (push.run_id, push.sequence) == ("run-2", 1)
        assert not learner.requests["Register"][1].HasField("previous_index")


@pytest.mark.parametrize("verdict", ["DUPLICATE", "STALE"])
def test_after_these_verdicts_it_goes_on(verdict):
    learner = Learner(answered(verdict))
    with sampling(learner):
        learner.grant(window_of(4))
        pushes = learner.pushed(3)
        assert [push.sequence for push in pushes] == [1, 2, 3]


def test_when_the_budget_is_met_it_rolls_no_more_but_evaluates():
    learner = Learner(answered("ENDED"))
    with sampling(learner):
        learner.grant(window_of(4))
        learner.pushed(1)
        learner.grant(window_of(4), evaluation_of(1))
        learner.wait_for(lambda _: learner.requests["ReportEpisodes"])
        assert len(learner.pushes) == 1


def test_rows_are_what_the_contract_says():
    learner = Learner()
    with sampling(learner, envs=3):
        learner.grant(round_of(fragments=60, slots=3))
        pushes = learner.pushed(20)
    roles = ("OBSERVATION", "ACTION", "REWARD", "TERMINATED", "TRUNCATED", "VALID", "IS_FIRST")
    joined = {role: np.concatenate([column(p, role)[:ROWS] for p in pushes]) for role in roles}
    for before, after in itertools.pairwise(pushes):
        assert np.array_equal(column(before, "OBSERVATION")[-1], column(after, "OBSERVATION")[0])
        gap = after.batch.slots[0].first_row - before.batch.slots[0].first_row
        assert (gap, after.sequence - before.sequence) == (ROWS, 1)
    ended = joined["TERMINATED"] | joined["TRUNCATED"]
    assert ended.sum() > 3
    # The row after an end is no step; the one after that begins an episode.
    assert np.array_equal(~joined["VALID"][1:], ended[:-1])
    assert np.array_equal(joined["IS_FIRST"][1:], ~joined["VALID"][:-1])
    assert joined["IS_FIRST"][0].all()
    assert np.array_equal(joined["REWARD"], joined["VALID"].astype(np.float32))
    # A terminal observation is beyond the limits of pole or cart, and stays for the reset's row.
    last = joined["OBSERVATION"][1:][ended[:-1]]
    assert ((np.abs(last[:, 2]) > 0.2094) | (np.abs(last[:, 0]) > 2.4)).all()
    started = joined["OBSERVATION"][joined["IS_FIRST"]]
    assert (np.abs(started) <= 0.05).all()
    assert len({row.tobytes() for row in started}) == len(started)
    episodes = [episode for push in pushes for episode in push.batch.episodes]
    assert len(episodes) == ended.sum()
    assert all(one.terminated and one.length == one.episode_return for one in episodes)
    logits = np.concatenate([column(push, "RECORD", "logits") for push in pushes])
    np.testing.assert_allclose(logits[..., 1], joined["OBSERVATION"][..., 2], rtol=1e-5)


def test_a_window_holds_so_many_fragments_in_flight_of_the_newest_version():
    learner = Learner(NEVER)
    with sampling(learner):
        learner.grant(window_of(3))
        learner.pushed(1)
        learner.grant(window_of(3), version=2)
        learner.wait_for(
            lambda _: any(pull.have_version == 2 for pull in learner.requests["PullWeights"])
        )
        rolled = learner.requests["PullWeights"][-1].progress.rows_rolled
        assert (rolled, slots(learner.pushes[0])) == (3 * ROWS, [0, 1, 2])


def test_what_was_rolled_for_a_window_is_welcome_after_its_grant():
    learner = Learner(Refuse(Code.UNAVAILABLE))
    with sampling(learner):
        learner.grant(window_of(8))
        learner.pushed(2)
        learner.grant(window_of(4, grant_id=21, version=2), version=2)
        learner.wait_for(
            lambda _: any(pull.have_version == 2 for pull in learner.requests["PullWeights"])
        )
        learner.answers["PushTrajectories"] = [ACCEPTED]
        learner.wait_for(lambda _: any(push.grant_id == 21 for push in learner.pushes))
        pushes = {(push.sequence, push.grant_id, push.batch.version) for push in learner.pushes}
        assert {(1, 20, 1), (2, 21, 2)} <= pushes
        assert all(grant == 21 for sequence, grant, _ in pushes if sequence > 1)


def test_what_was_rolled_for_a_round_that_is_over_is_dropped():
    learner = Learner(Refuse(Code.UNAVAILABLE))
    with sampling(learner):
        learner.grant(round_of(fragments=8))
        learner.pushed(2)
        learner.grant(round_of(11, version=2), version=2)
        learner.wait_for(
            lambda _: any(pull.have_version == 2 for pull in learner.requests["PullWeights"])
        )
        learner.answers["PushTrajectories"] = [ACCEPTED]
        learner.wait_for(lambda _: any(push.grant_id == 11 for push in learner.pushes))
        assert {push.sequence for push in learner.pushes if push.grant_id == 10} == {1}


def test_it_evaluates_an_older_version_that_it_asks_for():
    learner = Learner()
    with sampling(learner):
        learner.grant(evaluation_of(5, 6, 7, version=2, grant_id=31), version=3)
        learner.wait_for(lambda _: learner.requests["ReportEpisodes"])
        (report,) = learner.requests["ReportEpisodes"]
        assert (report.version, report.evaluation_id, report.grant_id) == (2, 3, 31)
        assert [one.seed for one in report.episodes] == [5, 6, 7]
        assert all(one.episode.length == one.episode.episode_return > 1 for one in report.episodes)
        assert 2 in [pull.version for pull in learner.requests["PullWeights"]]
        assert not learner.pushes


def test_a_version_that_is_gone_is_asked_for_once():
    learner = Learner()

    def gone(request):
        if request.version == 2:
            return Refuse(Code.NOT_FOUND, "VERSION_GONE")
        return learner.pull(request)

    learner.answers["PullWeights"] = [gone]
    with sampling(learner):
        learner.grant(evaluation_of(5, version=2), version=3)
        learner.wait_for(lambda _: 2 in [pull.version for pull in learner.requests["PullWeights"]])
        learner.grant(round_of(version=3))
        learner.pushed(1)
        assert [pull.version for pull in learner.requests["PullWeights"]].count(2) == 1
        assert not learner.requests["ReportEpisodes"]


def test_a_report_that_is_refused_is_played_again():
    learner = Learner()
    learner.answers["ReportEpisodes"][:0] = [Refuse(Code.INVALID_ARGUMENT, "INVALID_REQUEST")]
    with sampling(learner):
        learner.grant(evaluation_of(5, 6))
        learner.wait_for(lambda _: len(learner.requests["ReportEpisodes"]) == 2)
        first, again = learner.requests["ReportEpisodes"]
        assert first == again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number):
    learner = Learner()
    told = asyncio.Event()

    async def held(_):
        await told.wait()
        return ACCEPTED

    learner.answers["PushTrajectories"] = [held]
    with sampling(learner) as process:
        learner.grant(window_of(8))
        learner.pushed(1)
        process.send_signal(number)
        # It waits for the answer to the push in flight, and then says farewell.
        line = next(line for line in process.stderr if "draining" in line)
        assert json.loads(line)["signal"] == signal.Signals(number).name
        assert process.poll() is None
        told._loop.call_soon_threadsafe(told.set)
        assert ended(process)[0] == 128 + number
        assert learner.calls[-1] == "PullWeights"
        assert learner.requests["PullWeights"][-1].leaving
        assert len(learner.pushes) == 1


def test_a_signal_before_there_is_a_learner():
    command = node_sampler.sampler("--learner", "127.0.0.1:1")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert "call_failed" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 128 + signal.SIGTERM


STOPS = {
    "another spec": (4, {"Register": [Refuse(Code.FAILED_PRECONDITION, "SPEC_MISMATCH")]}),
    "forbidden": (4, {"GetRun": [Refuse(Code.PERMISSION_DENIED, "ROLE_FORBIDDEN")]}),
    "unknown token": (4, {"GetRun": [Refuse(Code.UNAUTHENTICATED, "TOKEN_UNKNOWN")]}),
    "too large": (4, {"Register": [Refuse(Code.RESOURCE_EXHAUSTED, "TOO_LARGE")]}),
    "another environment": (5, {"GetRun": [run_of(environment="Acrobot-v1")]}),
    "another protocol": (
        4,
        {"GetRun": [learner_pb2.GetRunResponse(run_id="r", protocol_version=2)]},
    ),
    "another signature": (4, {"Register": [learner_pb2.RegisterResponse()]}),
}


@pytest.mark.parametrize("case", STOPS)
def test_what_stops_it(case):
    code, answers = STOPS[case]
    learner = Learner()
    learner.answers.update(answers)
    with sampling(learner) as process:
        found, log = ended(process)
    assert found == code, log
    assert "sampler: " in log.splitlines()[-1]
    # A token that is not known is read again once.
    assert learner.calls.count("GetRun") == (2 if case == "unknown token" else 1)


def test_no_learner():
    command = node_sampler.sampler("--learner", "127.0.0.1:1", "--connect-timeout-seconds", "0.3")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert "no learner at 127.0.0.1:1" in done.stderr


def test_a_damaged_model_is_not_taken():
    learner = Learner()
    damaged = []

    async def pull(request):
        response = await learner.pull(request)
        if response.HasField("model") and not damaged:
            damaged.append(response.model)
            response.model = response.model[:-1]
        return response

    learner.answers["PullWeights"] = [pull]
    with sampling(learner):
        learner.grant(round_of())
        learner.pushed(1)
        versions = [pull.have_version for pull in learner.requests["PullWeights"]]
        assert damaged
        assert versions[:2] == [0, 0]
