"""MAPPO and IPPO, whole, in one process: they learn to act together, and play what they learned."""

from __future__ import annotations

import numpy as np
import pytest
from one_process import ONE_PROCESS

import wiserl
from learner import policy_file
from learner.outcome import Status
from learner.publishing import sessions
from learner.run_folder import RunFolder
from wiserl.export import export

pytestmark = [pytest.mark.usefixtures("own_graph_cache"), pytest.mark.timeout(300)]

SMALL = {
    **ONE_PROCESS,
    "env": "matrix_games:Together",
    "total_steps": 12_000,
    "n_envs": 8,
    "n_steps": 50,
    "learning_rate": 3e-3,
    "hidden_sizes": (32,),
    "final_eval_episodes": 20,
}


@pytest.mark.parametrize("name", ["mappo", "ippo"])
def test_a_team_learns_to_act_together(name, tmp_path):
    outcome = wiserl.train(name, runs=tmp_path, **SMALL)

    assert outcome.status == Status.FINISHED
    assert outcome.environment_steps == 12_000
    # Chance is worth 0.56. Over seeds 1 to 3 these were 4.9 to 5 from 11,000 steps on, and 4.5 at
    # half of them. Without learning the first is 0.
    assert np.mean(outcome.final.returns) >= 3.4
    assert outcome.metrics["rollout/ep_rew_mean"] >= 3.4
    assert set(outcome.final.agent_returns) == {"agent_0", "agent_1"}
    assert outcome.metrics["train/fresh_ratio_error"] < 1e-3


@pytest.mark.parametrize("name", ["mappo", "ippo"])
def test_a_team_learns_from_pictures(name, tmp_path):
    # Chance is worth 0.56. Over seeds 1 to 3 these were 4.99 to 5.
    outcome = wiserl.train(name, runs=tmp_path, **SMALL | {"env": "matrix_games:Pictured"})

    assert np.mean(outcome.final.returns) >= 3.4
    assert outcome.metrics["train/fresh_ratio_error"] < 1e-3
    agent = wiserl.load(outcome.folder)
    picture = np.full((9, 9, 1), 50, np.uint8)
    picture[:, 3:6] = 150
    assert agent.act({"agent_0": picture, "agent_1": picture}) == {"agent_0": 1, "agent_1": 1}


RECALL = {
    **SMALL,
    "env": "matrix_games:Recall",
    "total_steps": 24_000,
    "n_envs": 16,
    "n_steps": 24,
    "gamma": 1.0,
    "hidden_sizes": (16,),
    "final_eval_episodes": 30,
}
RECALLED = 0.75


@pytest.mark.parametrize("name", ["mappo", "ippo"])
def test_a_team_with_a_memory_names_what_it_was_shown(name, tmp_path):
    outcome = wiserl.train(name, runs=tmp_path, **RECALL, recurrent_units=16)

    # Chance is worth 1 / 3. Over seeds 1 to 3 these were 0.98 to 1 from 12,000 steps on.
    assert np.mean(outcome.final.returns) >= RECALLED
    assert outcome.metrics["rollout/ep_rew_mean"] >= RECALLED
    assert outcome.metrics["train/fresh_ratio_error"] < 1e-3
    agent = wiserl.load(outcome.folder)
    # Whoever forgets names the same number, whichever was shown.
    assert sum(named(agent, number) == {number} for number in (2, 0, 1)) >= 2
    _check_export(policy_file.load(RunFolder(outcome.folder)))


def named(agent, number):
    """What the agents name at the end of an episode in which they were shown a number."""
    agent.reset()
    shown = np.eye(4, dtype=np.float32)
    for seen in (number, 3, 3):
        found = agent.act(dict.fromkeys(("agent_0", "agent_1"), shown[seen]))
    return set(found.values())


def _check_export(saved):
    """That it says of every tensor which agents it is of, and that the model does what it says."""
    exported = export(saved)
    said = exported.description
    assert [(one["group"], one["agents"]) for one in said["groups"]] == [
        ("agent", ["agent_0", "agent_1"])
    ]
    assert said["groups"][0]["action_space"] == {"kind": "Discrete", "n": 3, "start": 0}
    tensors = {one["name"]: one for one in said["inputs"] + said["outputs"]}
    assert tensors["observation/agent"]["group"] == "agent"
    assert tensors["observation/agent"]["shape"] == ["batch", 2, 4]
    assert np.shape(tensors["state/agent/memory"]["initial"]) == (2, 16)
    assert "noise/agent" not in tensors
    dtypes = {one["name"]: one["dtype"] for one in said["inputs"]}
    fed = {name: np.array(one, dtypes[name]) for name, one in said["example"]["inputs"].items()}
    names = list(said["example"]["outputs"])
    answers = sessions.run(sessions.session_of(exported.model), names, fed)
    for name, expected in said["example"]["outputs"].items():
        np.testing.assert_allclose(answers[name], expected, rtol=1e-4, atol=1e-4)


def test_without_a_memory_it_is_forgotten(tmp_path):
    outcome = wiserl.train("mappo", runs=tmp_path, **RECALL)

    # One of three numbers: so many of 30 come by luck once in 10^5 runs, of 100 in none.
    assert np.mean(outcome.final.returns) < RECALLED
    assert outcome.metrics["rollout/ep_rew_mean"] < RECALLED
