"""Several agents, the whole street in one process: environment, segment, episode, update."""

from __future__ import annotations

import numpy as np
import pytest
from one_process import ONE_PROCESS
from run_tables import rows

import wiserl
from learner.outcome import Status
from wiserl.evaluate import evaluate

pytestmark = [pytest.mark.usefixtures("own_graph_cache"), pytest.mark.timeout(300)]

SMALL = {
    **ONE_PROCESS,
    "env": "sampler.environments.matrix_games:TwoStep",
    "total_steps": 1200,
    "n_envs": 4,
    "segment_length": 9,
    "buffer_size": 900,
    "learning_starts": 100,
    "batch_size": 8,
    "replay_ratio": 0.2,
    "recurrent": False,
    "final_eval_episodes": 3,
    "samplers": 2,
}


def test_a_team_trains_beside_its_samplers_in_rounds_and_from_files(tmp_path):
    for way in ({}, {"sync": True}, {"replay_storage": "disk"}):
        outcome = wiserl.train("qmix", runs=tmp_path / "-".join(["run", *way]), **SMALL, **way)

        assert outcome.status == Status.FINISHED
        assert outcome.environment_steps == 1200
        assert 0 < outcome.metrics["replay/size"] <= 900
        # Whole episodes count; what a slot has open at the end does not.
        assert 200 <= outcome.metrics["train/n_updates"] <= 220
        assert set(outcome.final.agent_returns) == {"agent_0", "agent_1"}
        for mean, *apart in zip(
            outcome.final.returns, *outcome.final.agent_returns.values(), strict=True
        ):
            assert mean == pytest.approx(np.mean(apart))
        episodes = rows(outcome.folder, "episodes")
        assert {row["length"] for row in episodes} == {"2"}
        assert all(row["return/agent_0"] == row["return/agent_1"] for row in episodes)
        assert "rollout/ep_rew_mean/agent_1" in outcome.metrics

        again = evaluate(wiserl_folder(outcome), episodes=2)
        assert list(again.returns) == list(outcome.final.returns)[:2]
        policy = wiserl.load(outcome.folder)
        start = np.eye(4, dtype=np.float32)[0]
        acts = policy.act({"agent_0": start, "agent_1": start})
        assert acts.keys() == {"agent_0", "agent_1"}
        assert all(act in (0, 1) for act in acts.values())
        assert policy.act({"agent_1": start}).keys() == {"agent_1"}


def wiserl_folder(outcome):
    from learner.run_folder import RunFolder

    return RunFolder(outcome.folder)


@pytest.mark.learning
@pytest.mark.parametrize(
    ("name", "game", "worth"),
    [("vdn", "TwoStep", 7.0), ("qmix", "TwoStep", 8.0)],
)
def test_presets_of_matrix_games_come_to_what_is_known(name, game, worth, tmp_path):
    outcome = wiserl.train(
        name,
        env=f"sampler.environments.matrix_games:{game}",
        runs=tmp_path,
        eval_points=0,
        workers=1,
        in_process=True,
        threads=1,
    )
    assert list(outcome.final.returns) == [worth]
