"""Training from replay, whole, in one process: the ratio, the budget, going on, beginning from."""

from __future__ import annotations

import pytest
from one_process import ONE_PROCESS
from run_tables import rows

import wiserl
from common.errors import InvalidFieldError
from learner.outcome import Status

pytestmark = pytest.mark.usefixtures("own_graph_cache")

SMALL = {
    **ONE_PROCESS,
    "env": "CartPole-v1",
    "total_steps": 900,
    "n_envs": 4,
    "segment_length": 8,
    "buffer_size": 600,
    "learning_starts": 100,
    "batch_size": 16,
    "replay_ratio": 0.25,
    "eval_points": 2,
    "eval_episodes": 2,
    "final_eval_episodes": 3,
    "samplers": 2,
}


@pytest.mark.parametrize(
    "way",
    [{}, {"sync": True}, {"prioritised": True, "n_step": 3}, {"replay_storage": "disk"}],
    ids=["asynchronous", "rounds", "prioritised", "disk"],
)
def test_a_run_meets_its_budget_and_its_ratio_exactly(tmp_path, way):
    outcome = wiserl.train("dqn", runs=tmp_path, **SMALL, **way)

    assert outcome.status == Status.FINISHED
    assert outcome.environment_steps == 900
    assert outcome.metrics["train/n_updates"] == (900 - 100) // 4
    assert outcome.metrics["replay/ratio"] == 0.25
    assert outcome.metrics["replay/size"] <= 600
    assert len(outcome.final.returns) == 3
    found = rows(outcome.folder)
    steps = [int(row["global_step"]) for row in found]
    assert steps == sorted(steps)
    assert steps[-1] == 900
    versions = [int(row["version"]) for row in found]
    assert versions == sorted(versions)


def test_every_episode_is_recorded_once(tmp_path):
    outcome = wiserl.train("dqn", runs=tmp_path, **SMALL)

    episodes = rows(outcome.folder, "episodes")
    assert len(episodes) == outcome.metrics["rollout/episodes"]
    assert sum(int(row["length"]) for row in episodes) <= 900
    assert sum(int(row["length"]) for row in episodes) > 700


def test_a_finished_run_goes_on_with_more_steps(tmp_path):
    first = wiserl.train("dqn", runs=tmp_path, **SMALL)
    with pytest.raises(InvalidFieldError, match="900 are done already"):
        wiserl.resume(first.folder)

    second = wiserl.resume(first.folder, total_steps=1500)

    assert second.folder == first.folder
    assert second.environment_steps == 1500
    assert second.version > first.version
    found = rows(second.folder)
    steps = [int(row["global_step"]) for row in found]
    assert steps == sorted(steps)
    assert steps[-1] == 1500
    # The replay was in memory: 600 rows of it, in whole blocks, went with the process.
    assert second.losses["lost_in_restart"]["rows"] == 600
    assert second.metrics["train/n_updates"] == 200 + (600 - 100) // 4


def test_a_replay_in_files_is_still_there(tmp_path):
    first = wiserl.train("dqn", runs=tmp_path, **SMALL, replay_storage="disk")
    second = wiserl.resume(first.folder, total_steps=1500)

    assert "lost_in_restart" not in second.losses
    assert second.metrics["train/n_updates"] == (1500 - 100) // 4


def test_a_policy_gradient_run_goes_on(tmp_path):
    settings = {**ONE_PROCESS, "env": "CartPole-v1", "samplers": 2, "n_envs": 4, "n_steps": 32}
    first = wiserl.train("ppo", runs=tmp_path, total_steps=500, **settings)
    second = wiserl.resume(first.folder, total_steps=1000)

    assert second.environment_steps == 1000
    found = rows(second.folder)
    assert [row["global_step"] for row in found][-1] == "1000"
    assert int(found[-1]["rollout/episodes"]) > int(rows(first.folder)[3]["rollout/episodes"])
    versions = [int(row["version"]) for row in found]
    assert versions == sorted(set(versions))


def test_a_run_begins_with_what_another_has_learned(tmp_path):
    first = wiserl.train("dqn", runs=tmp_path, **SMALL)
    second = wiserl.train("dqn", runs=tmp_path, init_from=first.folder, **SMALL)

    assert rows(second.folder, "evaluations")[0]["global_step"] == "0"
    again = wiserl.load(first.folder)
    assert again is not None
    assert second.environment_steps == 900


def test_parameters_of_other_networks_are_refused(tmp_path):
    first = wiserl.train("dqn", runs=tmp_path, **SMALL)
    with pytest.raises(InvalidFieldError, match="another algorithm, environment or network"):
        wiserl.train("dqn", runs=tmp_path, init_from=first.folder, hidden_sizes=(8,), **SMALL)


def test_a_run_stops_at_a_return(tmp_path):
    outcome = wiserl.train(
        "dqn", runs=tmp_path, stop_at_return=5.0, **{**SMALL, "total_steps": 50_000}
    )

    assert outcome.status == Status.FINISHED
    assert outcome.environment_steps < 50_000
    assert "stop_at_return is 5" in outcome.stop_reason
    assert outcome.metrics["rollout/episodes"] >= 100
    assert len(outcome.final.returns) == 3


@pytest.mark.parametrize(
    ("algorithm", "settings", "named"),
    [
        ("ppo", {"sync": False}, "sync"),
        ("dqn", {"sync": True, "replay_storage": "disk"}, "replay_storage"),
        ("dqn", {"learning_starts": 10_000}, "learning_starts"),
        ("dqn", {"n_step": 9}, "n_step"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(tmp_path, algorithm, settings, named):
    common = {**ONE_PROCESS, "env": "CartPole-v1", "total_steps": 500}
    if algorithm == "dqn":
        common |= {"buffer_size": 600, "segment_length": 8, "learning_starts": 100}
    with pytest.raises(InvalidFieldError, match=named):
        wiserl.train(algorithm, runs=tmp_path, **{**common, **settings})


def test_a_resume_that_is_refused_leaves_the_settings(tmp_path):
    first = wiserl.train("dqn", runs=tmp_path, **SMALL)
    settings = (first.folder / "config.yaml").read_text()

    with pytest.raises(InvalidFieldError, match="another algorithm, environment or network"):
        wiserl.resume(first.folder, total_steps=1500, hidden_sizes=(8,))
    assert (first.folder / "config.yaml").read_text() == settings

    second = wiserl.resume(first.folder, total_steps=1000)
    assert second.first_step == 900
    assert "total_steps: 1000" in (first.folder / "config.yaml").read_text()
