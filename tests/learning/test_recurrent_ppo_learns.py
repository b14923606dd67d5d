"""PPO learns a task that needs a memory with one, the whole way, and cannot without."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import wiserl

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.learning, pytest.mark.timeout(600)]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Runs the example."""
    monkeypatch.syspath_prepend(str(ROOT))

    def run(**settings):
        return wiserl.train(
            "ppo",
            env="examples.memory_tasks:recall",
            config=ROOT / "examples/recall.yaml",
            runs=tmp_path,
            eval_points=0,
            final_eval_episodes=50,
            in_process=True,
            threads=1,
            **settings,
        )

    return run


def test_with_a_memory_every_cue_is_recalled_by_the_run_and_by_the_loaded_agent(trained):
    outcome = trained()
    assert list(outcome.final.returns) == [1.0] * 50
    assert outcome.metrics["train/fresh_ratio_error"] < 1e-5
    agent = wiserl.load(outcome.folder)
    environment = importlib.import_module("examples.memory_tasks").recall()
    for seed in range(20):
        agent.reset()
        observation, _ = environment.reset(seed=seed)
        ended = False
        while not ended:
            observation, reward, ended, _, _ = environment.step(agent.act(observation))
        assert reward == 1.0


def test_without_a_memory_the_cue_is_forgotten(trained):
    outcome = trained(recurrent_units=0)
    # Right or wrong by a coin: 50 episodes stay this far from 1 but for one time in 10^6.
    assert abs(np.mean(outcome.final.returns)) < 0.7
