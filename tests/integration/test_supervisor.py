"""`python -m sampler` as a real process with real workers, against a learner made for tests."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from fake_learner import NEVER, FakeLearner, Refuse, remembers, run_of, served
from onnx import TensorProto, helper
from processes import descendants, free_port, is_alive, until
from small_models import BOOL, FLOAT, INT, graph

from common import signature, tensors
from common.signature import (
    ColumnKey,
    ColumnSpec,
    Extent,
    GraphInput,
    GraphOutput,
    Role,
    Signature,
)
from common.statuses import Code
from protos.wiserl.v1 import grant_pb2, learner_pb2
from sampler.exits import ExitCode

SIGNATURE = Signature(
    inputs=(GraphInput("observation", Role.OBSERVATION, FLOAT, (4,)),),
    outputs=(
        GraphOutput("action", Role.ACTION, INT),
        GraphOutput("greedy", Role.GREEDY_ACTION, INT),
    ),
    columns=(
        ColumnSpec(ColumnKey(Role.OBSERVATION), FLOAT, (4,), Extent.ROWS_PLUS_ONE),
        ColumnSpec(ColumnKey(Role.ACTION), INT),
        ColumnSpec(ColumnKey(Role.REWARD), FLOAT),
        ColumnSpec(ColumnKey(Role.VALID), BOOL),
    ),
)
FINISH = grant_pb2.Grant(grant_id=99, finish=grant_pb2.FinishGrant(reason="done"))


def leans_left() -> bytes:
    """A policy for CartPole: pushes towards the side to which the pole leans."""
    nodes = [
        helper.make_node("Gather", ["observation", "pole"], ["angle"], axis=1),
        helper.make_node("Squeeze", ["angle", "axes"], ["flat"]),
        helper.make_node("Greater", ["flat", "zero"], ["right"]),
        helper.make_node("Cast", ["right"], ["action"], to=TensorProto.INT64),
        helper.make_node("Identity", ["action"], ["greedy"]),
    ]
    constants = {"pole": np.array([2]), "zero": np.float32(0), "axes": np.array([1])}
    return graph(nodes, SIGNATURE, constants)


def collect(grant_id, *, fragments, slots, rows=32):
    grant = grant_pb2.Grant(grant_id=grant_id)
    grant.collect.rows, grant.collect.version = rows, 1
    grant.collect.finite.fragments, grant.collect.finite.slots = fragments, slots
    return grant


def answer(*grants, revision=1):
    model = leans_left()
    return learner_pb2.PullWeightsResponse(
        version=1,
        model=model,
        model_sha256=hashlib.sha256(model).digest(),
        grants_revision=revision,
        grants=grants,
    )


def learner_with(*pulls):
    learner = FakeLearner()
    learner.answers["GetRun"] = [run_of(environment="CartPole-v1")]
    learner.answers["Register"] = [
        learner_pb2.RegisterResponse(signature=signature.to_proto(SIGNATURE), seed=7)
    ]
    learner.answers["PullWeights"] = list(pulls)
    return learner


@pytest.fixture
def start(tmp_path):
    """Starts samplers, kills what is left of them, and reads what they logged."""
    started = []

    def start(address, *flags):
        command = [sys.executable, "-m", "sampler", "--learner", address, "--workers", "2"]
        with (tmp_path / "log").open("wb") as log:
            started.append(
                subprocess.Popen([*command, "--envs-per-worker", "2", *flags], stderr=log)
            )
        return started[-1]

    yield start
    for sampler in started:
        sampler.kill()
        sampler.wait()


@pytest.fixture
def events(tmp_path):
    """The log of the sampler that was started last."""

    def events():
        return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]

    return events


def test_a_round_and_an_evaluation_then_the_end(start):
    evaluate = grant_pb2.Grant(
        grant_id=11,
        evaluate=grant_pb2.EvaluateGrant(evaluation_id=3, version=1, seeds=[1, 2, 3]),
    )
    learner = learner_with(answer(collect(10, fragments=6, slots=4), evaluate))

    async def finish_when_all_is_in(request):
        while sum(len(r.episodes) for r in learner.requests["ReportEpisodes"]) < 3:
            await learner.asked("ReportEpisodes", len(learner.requests["ReportEpisodes"]) + 1)
        while sum(len(p.batch.slots) for p in learner.requests["PushTrajectories"]) < 6:
            await learner.asked("PushTrajectories", len(learner.requests["PushTrajectories"]) + 1)
        return answer(FINISH, revision=2)

    learner.answers["PullWeights"] += [finish_when_all_is_in, answer()]
    with served(learner) as address:
        assert start(address).wait(60) == ExitCode.FINISHED
    fragments = {}
    for push in learner.requests["PushTrajectories"]:
        observation, action, reward, valid = (
            tensors.decode(column.tensor) for column in push.batch.columns
        )
        for position, part in enumerate(push.batch.slots):
            fragments.setdefault(part.slot, []).append(part.first_row)
            angles = observation[:-1, position, 2]
            rolled = valid[:, position]
            assert (action[rolled, position] == (angles[rolled] > 0)).all()
            assert (reward[:, position] == rolled).all()
    assert fragments == {0: [0, 32], 1: [0, 32], 2: [0], 3: [0]}
    reported = [e for report in learner.requests["ReportEpisodes"] for e in report.episodes]
    assert sorted(e.seed for e in reported) == [1, 2, 3]
    assert all(e.episode.length == e.episode.episode_return > 0 for e in reported)


def test_sigterm_drains_and_leaves_nobody_behind(start, events):
    learner = learner_with(answer(collect(10, fragments=10**6, slots=4)), NEVER, answer())
    with served(learner) as address:
        sampler = start(address)
        learner.wait_for(lambda learner: len(learner.requests["PushTrajectories"]) > 5)
        family = descendants(sampler.pid)
        assert len(family) >= 3
        sampler.terminate()
        assert sampler.wait(30) == 128 + signal.SIGTERM
    assert not any(is_alive(pid) for pid in family)
    last = learner.requests["PullWeights"][-1]
    assert last.leaving
    assert last.progress.rows_rolled >= 6 * 64
    assert learner.calls[-1] == "PullWeights"
    assert "draining" in [event["event"] for event in events()]


def test_a_killed_sampler_leaves_nobody_behind(start):
    learner = learner_with(answer(collect(10, fragments=10**6, slots=4)), NEVER)
    with served(learner) as address:
        sampler = start(address)
        learner.wait_for(lambda learner: learner.requests["PushTrajectories"])
        family = descendants(sampler.pid)
        assert len(family) >= 3
        sampler.kill()
        sampler.wait()
        until("the end of its workers", lambda: not any(is_alive(pid) for pid in family))


def test_a_killed_worker_is_replaced_and_its_fragments_are_rolled_again(start, events):
    learner = learner_with(answer(collect(10, fragments=1000, slots=4)), NEVER)
    with served(learner) as address:
        sampler = start(address)
        learner.wait_for(lambda learner: learner.requests["PushTrajectories"])
        (nursery,) = [pid for pid in descendants(sampler.pid) if descendants(pid)]
        worker = max(descendants(nursery))
        os.kill(worker, signal.SIGKILL)

        def all_fragments_are_in(learner):
            pushes = learner.requests["PushTrajectories"]
            return sum(len(push.batch.slots) for push in pushes) == 1000

        learner.wait_for(all_fragments_are_in)
        sampler.terminate()
        assert sampler.wait(30) == 128 + signal.SIGTERM
    incarnations = {
        part.incarnation
        for push in learner.requests["PushTrajectories"]
        for part in push.batch.slots
    }
    assert len(incarnations) == 2
    assert learner.requests["PullWeights"][-1].progress.worker_restarts == 1
    assert "worker_lost" in [event["event"] for event in events()]


def test_a_restarted_learner_finds_the_same_workers_under_the_same_index(start, events):
    window = grant_pb2.Grant(grant_id=10)
    window.collect.rows, window.collect.version, window.collect.or_newer = 32, 1, True
    window.collect.window.fragments = 8
    port = free_port()
    first, second = learner_with(answer(window), NEVER), learner_with()
    first.answers["Register"][0].index = 3
    with served(first, port) as address:
        sampler = start(address)
        first.wait_for(lambda learner: len(learner.requests["PushTrajectories"]) > 2)
        family = descendants(sampler.pid)
    registration = learner_pb2.RegisterResponse()
    registration.CopyFrom(first.answers["Register"][0])
    registration.incarnation_base, registration.last_sequence = 1 << 44, 2
    second.answers["Register"] = [registration]
    pulls = iter([answer(window), NEVER, answer()])
    second.answers["PullWeights"] = [remembers(second, lambda _: next(pulls))]
    second.answers["PushTrajectories"] = [
        remembers(second, learner_pb2.PushTrajectoriesResponse(verdict="VERDICT_ACCEPTED"))
    ]
    with served(second, port):
        second.wait_for(lambda learner: len(learner.requests["PushTrajectories"]) > 4)
        assert descendants(sampler.pid) == family
        sampler.terminate()
        assert sampler.wait(30) == 128 + signal.SIGTERM
    assert second.requests["Register"][0].previous_index == 3
    fresh = [
        push
        for push in second.requests["PushTrajectories"]
        if all(part.incarnation == 1 << 44 for part in push.batch.slots)
    ]
    # At most the push in flight was tried again.
    assert len(second.requests["PushTrajectories"]) - len(fresh) <= 1
    assert {part.first_row for part in fresh[0].batch.slots} == {0}
    assert "registering_again" in [event["event"] for event in events()]


def test_an_environment_that_is_not_there(start, events):
    learner = learner_with(NEVER)
    learner.answers["GetRun"] = [run_of(environment="NoSuchEnvironment-v0")]
    with served(learner) as address:
        assert start(address).wait(60) == ExitCode.ENVIRONMENT
    assert "NoSuchEnvironment" in events()[-1]["reason"]


def test_a_learner_that_will_not_have_it(start, events):
    learner = learner_with(NEVER)
    learner.answers["Register"] = [
        Refuse(Code.FAILED_PRECONDITION, "SPEC_MISMATCH", message="the run has 3 actions")
    ]
    with served(learner) as address:
        assert start(address).wait(60) == ExitCode.REFUSED
    assert "the run has 3 actions" in events()[-1]["reason"]
    assert events()[-1]["event"] == "sampler_stopped"


def test_no_learner(start, events):
    flags = ("--connect-timeout-seconds", "0.1")
    assert start(f"127.0.0.1:{free_port()}", *flags).wait(60) == ExitCode.UNREACHABLE
    assert "--connect-timeout-seconds" in events()[-1]["reason"]


def test_a_wrong_flag():
    command = [sys.executable, "-m", "sampler", "--workers", "0"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == ExitCode.USAGE
    assert result.stderr == "sampler: workers: 0 is below 1\n"
