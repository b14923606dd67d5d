"""DQN learns CartPole, the whole way: samplers, pushes, replay, gradient steps, publications.

In rounds the run is the same bit for bit wherever arithmetic is, so one seed tells.
"""

from __future__ import annotations

import pytest

import wiserl

pytestmark = [pytest.mark.learning, pytest.mark.timeout(600)]


def test_dqn_learns_cartpole_in_rounds(tmp_path):
    outcome = wiserl.train(
        "dqn",
        env="CartPole-v1",
        runs=tmp_path,
        sync=True,
        total_steps=40_000,
        eval_points=0,
        final_eval_episodes=20,
        in_process=True,
        threads=1,
    )

    assert outcome.metrics["train/n_updates"] == (40_000 - 1_000) // 2
    mean = sum(outcome.final.returns) / len(outcome.final.returns)
    assert mean >= 400
