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
    assert list(outcome.final.returns) == [5.0] * 20
    assert set(outcome.final.agent_returns) == {"agent_0", "agent_1"}
    assert outcome.metrics["train/fresh_ratio_error"] < 1e-3


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


@pytest.mark.parametrize("name", ["mappo", "ippo"])
def test_a_team_with_a_memory_names_what_it_was_shown(name, tmp_path):
    outcome = wiserl.train(name, runs=tmp_path, **RECALL, recurrent_units=16)

    assert list(outcome.final.returns) == [1.0] * 30
    assert outcome.metrics["train/fresh_ratio_error"] < 1e-3
    agent = wiserl.load(outcome.folder)
    shown = np.eye(4, dtype=np.float32)
    for number in (2, 0, 1):
        agent.reset()
        for seen in (number, 3, 3):
            found = agent.act(dict.fromkeys(("agent_0", "agent_1"), shown[seen]))
        assert set(found.values()) == {number}
    _check_export(policy_file.load(RunFolder(outcome.folder)))


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

    # One of three numbers: more than 24 of 30 come by luck once in 10^7 runs.
    assert sum(outcome.final.returns) < 24
