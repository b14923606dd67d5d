"""The same seed gives the same metrics.csv bit for bit, over gRPC and in one process."""

from __future__ import annotations

import subprocess

import processes
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def train(runs, env, *arguments):
    command = processes.wiserl("train", "ppo", "--env", env, "--runs", str(runs), "--quiet")
    command += [*processes.SMALL_ROUNDS, "--total-steps", "4000", *arguments]
    subprocess.run(command, check=True, timeout=200)
    return processes.metrics(runs)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_two_samplers_twice_and_in_process(tmp_path, env):
    first = train(tmp_path / "first", env, "--seed", "5", "--samplers", "2")
    again = train(tmp_path / "again", env, "--seed", "5", "--samplers", "2")
    inside = train(tmp_path / "inside", env, "--seed", "5", "--samplers", "2", "--in-process")

    assert len(first) >= 7
    assert first[-1]["global_step"] == "4000"
    assert again == first
    assert inside == first


def test_replay_in_rounds_twice_and_in_process(tmp_path):
    def replay(name, *arguments):
        command = processes.wiserl("train", "dqn", "--env", "CartPole-v1", "--quiet", "--sync")
        command += ["True", "--runs", str(tmp_path / name), "--seed", "5", "--samplers", "2"]
        command += ["--total-steps", "1500", "--learning-starts", "300", "--eval-points", "0"]
        command += ["--final-eval-episodes", "2", "--prioritised", *arguments]
        subprocess.run(command, check=True, timeout=200)
        return processes.metrics(tmp_path / name)

    first = replay("first")
    assert float(first[-1]["replay/ratio"]) > 0
    assert first[-1]["global_step"] == "1500"
    assert replay("again") == first
    assert replay("inside", "--in-process") == first


def test_another_seed_gives_another_curve(tmp_path):
    first = train(tmp_path / "first", "CartPole-v1", "--seed", "5", "--in-process")
    other = train(tmp_path / "other", "CartPole-v1", "--seed", "6", "--in-process")

    assert other != first


def test_a_fresh_version_has_ratio_one(tmp_path):
    rows = train(tmp_path, "Pendulum-v1", "--samplers", "1")

    errors = [float(row["train/fresh_ratio_error"]) for row in rows]
    assert max(errors) < 1e-5
