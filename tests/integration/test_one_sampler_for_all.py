"""One sampler program, told nothing of agents, serves DQN on CartPole and QMIX on MPE."""

from __future__ import annotations

import json

import processes
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

SAMPLER = processes.wiserl("sampler", "--workers", "1", "--envs-per-worker", "2", "--learner")
RUNS = [
    ("dqn", "CartPole-v1", ("--learning-starts", "100")),
    ("qmix", "mpe2/simple_spread_v3", ("--learning-starts", "100", "--buffer-size", "5000")),
]


@pytest.mark.parametrize(("algorithm", "env", "settings"), RUNS)
def test_the_same_command_serves_both(algorithm, env, settings, tmp_path):
    address = f"127.0.0.1:{processes.free_port()}"
    command = processes.wiserl("learner", algorithm, "--env", env, "--port", address.split(":")[1])
    command += ["--total-steps", "600", "--runs", str(tmp_path / "runs"), *settings]
    command += ["--eval-points", "0", "--final-eval-episodes", "2"]
    logs = tmp_path / "learner.log", tmp_path / "sampler.log"
    with (
        processes.process(command, logs[0]) as learner,
        processes.process([*SAMPLER, address], logs[1]) as sampler,
    ):
        assert learner.wait(400) == 0, logs[0].read_text()
        assert sampler.wait(60) == 0, logs[1].read_text()
    result = processes.result(tmp_path / "runs")
    assert result["status"] == "finished"
    assert result["environment_steps"] == 600
    returns = result["final_evaluation"].get("agent_returns", {})
    assert len(returns) == (3 if algorithm == "qmix" else 0)
    assert all(len(each) == 2 for each in returns.values()), json.dumps(returns)
