"""Atari the whole way on a few steps: presets, wrapper, frames as bytes, evaluations in scores."""

from __future__ import annotations

import pytest
from one_process import ONE_PROCESS

import wiserl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SMALL = {
    "dqn": {"learning_starts": 64, "buffer_size": 1_000, "replay_ratio": 0.05, "n_envs": 2},
    "sac": {"learning_starts": 64, "buffer_size": 1_000, "replay_ratio": 0.05, "n_envs": 2},
    "ppo": {"n_envs": 2, "n_steps": 32, "epochs": 1},
}


@pytest.mark.parametrize("algorithm", SMALL)
def test_pong_is_played_with_the_preset(algorithm, tmp_path):
    outcome = wiserl.train(
        algorithm,
        env="ALE/Pong-v5",
        runs=tmp_path,
        total_steps=128,
        **ONE_PROCESS,
        **SMALL[algorithm],
    )

    assert outcome.environment_steps == 128
    assert outcome.metrics["train/n_updates"] >= 2
    (score,) = outcome.final.returns
    # A whole game in its own points, not one life and not signs of rewards over parts of it.
    assert -21 <= score <= 21
    assert max(score, -score) >= 1
    (leaf,) = wiserl.load(outcome.folder).saved.signature.inputs[:1]
    assert (leaf.shape, leaf.dtype.name) == ((4, 84, 84), "uint8")
