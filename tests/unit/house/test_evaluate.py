from __future__ import annotations

import os

import pytest
from saved_policy import run_with, saved

import wiserl
from common.errors import WiseRLError
from wiserl import runs
from wiserl.evaluate import evaluate


def test_greedy_episodes_are_those_of_the_policy(tmp_path):
    found = evaluate(run_with(saved(), tmp_path / "run"), episodes=12)
    assert found.seeds == tuple(range(1_000_000, 1_000_012))
    assert found.returns == tuple(map(float, found.lengths))
    assert min(found.returns) > 50
    assert (found.version, found.global_step) == (7, 5000)


def test_stochastic_episodes_explore_and_repeat(tmp_path):
    folder = run_with(saved(epsilon=1.0), tmp_path / "run")
    # With epsilon 1 the policy pushes left whatever it sees, and the pole falls at once.
    explored = evaluate(folder, episodes=10, stochastic=True)
    assert max(explored.returns) < 12
    half = run_with(saved(epsilon=0.3), tmp_path / "half")
    assert evaluate(half, episodes=10, stochastic=True) == evaluate(
        half, episodes=10, stochastic=True
    )
    assert "10 stochastic episodes" in explored.describe("stochastic")


def test_a_policy_knows_nothing_of_step_limits(tmp_path):
    folder = run_with(saved(), tmp_path / "run")
    found = evaluate(folder, episodes=2, env_args={"max_episode_steps": 20})
    assert found.lengths == (20, 20)


def test_another_environment_is_refused_in_one_line(tmp_path):
    folder = run_with(saved(), tmp_path / "run")
    with pytest.raises(WiseRLError, match=r"another environment: .*Box.*Discrete\(n=3") as caught:
        evaluate(folder, episodes=1, env="Acrobot-v1")
    assert "\n" not in str(caught.value)


def test_a_folder_above_runs_stands_for_the_newest_of_them(tmp_path):
    for age, name in ((20, "new"), (30, "old")):
        folder = run_with(saved(), tmp_path / "runs" / "CartPole-v1" / "byhand" / name)
        os.utime(folder.policy, (1_000_000 - age, 1_000_000 - age))
    for above in ("runs", "runs/CartPole-v1", "runs/CartPole-v1/byhand"):
        assert runs.chosen(tmp_path / above).path == folder.path.with_name("new")
    assert runs.chosen(folder.path) == folder
    assert wiserl.load(tmp_path / "runs").saved.version == saved().version
    (tmp_path / "empty").mkdir()
    with pytest.raises(WiseRLError, match="empty holds no policy"):
        runs.chosen(tmp_path / "empty")
    with pytest.raises(WiseRLError, match="does not exist"):
        runs.chosen(tmp_path / "elsewhere")
