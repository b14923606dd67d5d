"""DDPG, TD3 and SAC, whole, in one process: random actions first, then noise, with its memory."""

from __future__ import annotations

import numpy as np
import pytest
from one_process import ONE_PROCESS
from run_tables import training

import wiserl
from common.signature import ColumnKey, Role
from learner.experience.replay import ReplayStore
from learner.outcome import Status

pytestmark = pytest.mark.usefixtures("own_graph_cache")

SMALL = {
    **ONE_PROCESS,
    "env": "Pendulum-v1",
    "total_steps": 600,
    "n_envs": 2,
    "segment_length": 8,
    "buffer_size": 600,
    "learning_starts": 200,
    "batch_size": 16,
    "replay_ratio": 0.5,
    "hidden_sizes": (16,),
    "eval_points": 1,
    "eval_episodes": 1,
    "final_eval_episodes": 2,
    "samplers": 1,
    "sync": True,
}


@pytest.fixture
def stored(monkeypatch):
    """The actions that came into replay, in the order in which they did."""
    found = []
    insert = ReplayStore.insert

    def noted(self, segment, keys):
        found.append(segment.columns[ColumnKey(Role.ACTION)].copy())
        return insert(self, segment, keys)

    monkeypatch.setattr(ReplayStore, "insert", noted)
    return found


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("ddpg", {"exploration": "ornstein_uhlenbeck"}),
        ("td3", {"prioritised": True, "n_step": 3}),
        ("sac", {}),
    ],
)
def test_a_run_meets_its_budget_twice_with_the_same_numbers(tmp_path, stored, name, way):
    tables = []
    for folder in ("one", "other"):
        outcome = wiserl.train(name, runs=tmp_path / folder, **SMALL, **way)
        assert outcome.status == Status.FINISHED
        assert outcome.environment_steps == 600
        assert outcome.metrics["train/n_updates"] == (600 - 200) // 2
        tables.append(training(outcome.folder))
    assert tables[0] == tables[1]
    first = np.concatenate([actions.ravel() for actions in stored[: 200 // 16]])
    # Pendulum's torque reaches from -2 to 2, and so do random actions.
    assert np.abs(first).max() <= 2.0
    assert first.std() == pytest.approx(2 / np.sqrt(3), rel=0.15)


def test_sac_takes_discrete_actions(tmp_path):
    outcome = wiserl.train("sac", runs=tmp_path, **{**SMALL, "env": "CartPole-v1"})
    assert outcome.status == Status.FINISHED
    assert outcome.metrics["train/n_updates"] == (600 - 200) // 2
