"""One sampler program, told nothing of agents, serves DQN on CartPole and QMIX on MPE."""

from __future__ import annotations

import json
import subprocess

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
    command += ["--total-steps", "600", "--runs", str(tmp_path), *settings]
    command += ["--eval-points", "0", "--final-eval-episodes", "2"]
    learner = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    sampler = subprocess.Popen([*SAMPLER, address], stderr=subprocess.PIPE, text=True)
    try:
        _, errors = learner.communicate(timeout=400)
        assert learner.returncode == 0, errors
        _, errors = sampler.communicate(timeout=60)
        assert sampler.returncode == 0, errors
    finally:
        for process in (learner, sampler):
            process.kill()
            process.communicate()
    result = processes.result(tmp_path)
    assert result["status"] == "finished"
    assert result["environment_steps"] == 600
    returns = result["final_evaluation"].get("agent_returns", {})
    assert len(returns) == (3 if algorithm == "qmix" else 0)
    assert all(len(each) == 2 for each in returns.values()), json.dumps(returns)
