"""MAPPO and IPPO, whole, in one process: they learn to act together, and play what they learned."""

from __future__ import annotations

import pytest

import wiserl
from learner.outcome import Status

pytestmark = [pytest.mark.usefixtures("own_graph_cache"), pytest.mark.timeout(300)]

SMALL = {
    "env": "matrix_games:Together",
    "total_steps": 12_000,
    "n_envs": 8,
    "n_steps": 50,
    "learning_rate": 3e-3,
    "hidden_sizes": (32,),
    "eval_points": 0,
    "final_eval_episodes": 20,
    "workers": 1,
    "in_process": True,
    "threads": 1,
}


@pytest.mark.parametrize("name", ["mappo", "ippo"])
def test_a_team_learns_to_act_together(name, tmp_path):
    outcome = wiserl.train(name, runs=tmp_path, **SMALL)

    assert outcome.status == Status.FINISHED
    assert outcome.environment_steps == 12_000
    assert list(outcome.final.returns) == [5.0] * 20
    assert set(outcome.final.agent_returns) == {"agent_0", "agent_1"}
    assert outcome.metrics["train/fresh_ratio_error"] < 1e-3
