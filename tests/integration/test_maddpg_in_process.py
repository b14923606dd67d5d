"""MADDPG, whole, in one process: several agents, their groups, their returns, the ratio."""

from __future__ import annotations

import pytest
from one_process import ONE_PROCESS
from run_tables import training

import wiserl
from learner.outcome import Status

pytestmark = pytest.mark.usefixtures("own_graph_cache")

SMALL = {
    **ONE_PROCESS,
    "total_steps": 600,
    "n_envs": 4,
    "segment_length": 10,
    "buffer_size": 600,
    "learning_starts": 100,
    "batch_size": 32,
    "replay_ratio": 0.1,
    "hidden_sizes": (16,),
    "eval_points": 1,
    "eval_episodes": 2,
    "final_eval_episodes": 3,
    "samplers": 2,
}


@pytest.mark.parametrize(
    ("env", "agents", "way"),
    [
        (
            "mpe2/simple_spread_v3",
            ["agent_0", "agent_1", "agent_2"],
            {"policies": "shared", "replay_storage": "disk"},
        ),
        (
            "mpe2/simple_speaker_listener_v4",
            ["speaker_0", "listener_0"],
            {"env_args": {"continuous_actions": True}, "prioritised": True},
        ),
    ],
)
def test_a_run_meets_its_budget_and_its_ratio_exactly(tmp_path, env, agents, way):
    outcome = wiserl.train("maddpg", env=env, runs=tmp_path, **SMALL, **way)
    assert outcome.status == Status.FINISHED
    assert outcome.environment_steps == 600
    assert outcome.metrics["train/n_updates"] == (600 - 100) // 10
    apart = [outcome.metrics[f"eval/mean_reward/{agent}"] for agent in agents]
    assert outcome.metrics["eval/mean_reward"] == pytest.approx(sum(apart) / len(apart), rel=1e-5)


def test_rounds_of_one_seed_are_the_same_twice(tmp_path):
    tables = []
    for folder in ("one", "other"):
        way = {**SMALL, "env": "mpe2/simple_spread_v3", "policies": "shared", "sync": True}
        outcome = wiserl.train("maddpg", runs=tmp_path / folder, **way)
        tables.append(training(outcome.folder))
    assert tables[0] == tables[1]
    assert float(tables[0][-1]["train/n_updates"]) > 0
