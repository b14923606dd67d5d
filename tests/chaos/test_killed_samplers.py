"""kill -9 of samplers in the middle of a run: others take their share over, and nothing hangs."""

from __future__ import annotations

import os
import signal

import processes
import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

BUDGET = 40_000
"""Long enough that a sampler can be killed in the middle, also on a quick machine."""


@pytest.fixture
def learner(tmp_path):
    port = processes.free_port()
    command = processes.wiserl(
        *("learner", "ppo", "--env", "CartPole-v1", "--port", str(port), "--seed", "3"),
        *("--runs", str(tmp_path / "runs"), "--total-steps", str(BUDGET), "--quiet"),
        *("--expect-samplers", "2", *processes.SMALL_ROUNDS),
    )
    with processes.process(command, tmp_path / "learner.log") as running:
        running.port = port
        running.runs = tmp_path / "runs"
        yield running


def sampler(learner, log):
    command = processes.wiserl(
        *("sampler", "--learner", f"127.0.0.1:{learner.port}"),
        *("--workers", "1", "--envs-per-worker", "4"),
    )
    return processes.process(command, log)


def test_the_share_of_a_killed_sampler_is_granted_again(learner, tmp_path):
    with (
        sampler(learner, tmp_path / "a.log") as killed,
        sampler(learner, tmp_path / "b.log") as left,
    ):
        processes.until("some rounds", lambda: processes.steps_so_far(learner.runs) > 2_000)
        family = processes.descendants(killed.pid)
        assert family, "a sampler has at least a worker"
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        at_kill = processes.steps_so_far(learner.runs)

        assert left.wait(processes.PATIENCE_SECONDS) == 0
        assert learner.wait(processes.PATIENCE_SECONDS) == 0

    assert at_kill < BUDGET
    assert not [pid for pid in family if processes.is_alive(pid)]
    result = processes.result(learner.runs)
    assert result["status"] == "finished"
    assert result["environment_steps"] == BUDGET
    assert int(processes.metrics(learner.runs)[-1]["global_step"]) == BUDGET


def test_a_replacement_joins_a_run_that_lost_its_only_sampler(learner, tmp_path):
    with sampler(learner, tmp_path / "a.log") as one, sampler(learner, tmp_path / "b.log") as two:
        processes.until("some rounds", lambda: processes.steps_so_far(learner.runs) > 2_000)
        for running in (one, two):
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
    with sampler(learner, tmp_path / "c.log") as joined:
        assert joined.wait(processes.PATIENCE_SECONDS) == 0
        assert learner.wait(processes.PATIENCE_SECONDS) == 0

    assert processes.result(learner.runs)["environment_steps"] == BUDGET
