"""Asynchronous on-policy training, whole, in one process: the budget, going on, the lag."""

from __future__ import annotations

import subprocess

import processes
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
    "n_steps": 8,
    "eval_points": 2,
    "eval_episodes": 2,
    "final_eval_episodes": 3,
    "samplers": 2,
}


@pytest.mark.parametrize(
    ("algorithm", "way"),
    [
        ("appo", {}),
        ("impala", {}),
        ("appo", {"sync": True}),
        ("impala", {"sync": True}),
        ("appo", {"env": "Pendulum-v1", "queue_size": 6}),
        ("impala", {"recurrent_units": 8}),
        ("appo", {"n_envs": "auto", "envs_per_worker": 2, "n_minibatches": 2}),
    ],
    ids=["appo", "impala", "appo-rounds", "impala-rounds", "continuous", "memory", "auto"],
)
def test_a_run_meets_its_budget_exactly(tmp_path, algorithm, way):
    outcome = wiserl.train(algorithm, runs=tmp_path, **(SMALL | way))

    assert outcome.status == Status.FINISHED
    assert outcome.environment_steps == 900
    assert len(outcome.final.returns) == 3
    found = rows(outcome.folder)
    steps = [int(row["global_step"]) for row in found]
    assert steps == sorted(steps)
    assert steps[-1] == 900
    assert int(found[-1]["version"]) <= outcome.version


def test_the_lag_is_recorded_and_nothing_is_lost(tmp_path):
    outcome = wiserl.train("impala", runs=tmp_path, **SMALL)

    assert "aged" not in outcome.losses
    assert "stale" not in outcome.losses
    # 900 valid steps and a few rows that are none, 32 rows an update.
    assert 28 <= outcome.metrics["train/n_updates"] <= 36
    found = [row for row in rows(outcome.folder) if row["learner/policy_lag"]]
    for row in found:
        assert 0 <= float(row["learner/policy_lag"]) <= float(row["learner/policy_lag_max"]) <= 4
        assert float(row["learner/stale_share"]) == 0
    assert len(found) >= 10
    assert outcome.metrics["learner/publish_interval"] >= 1
    assert outcome.metrics["queue/insert_wait_seconds"] >= 0


def test_the_lag_is_drawn(tmp_path):
    outcome = wiserl.train("appo", runs=tmp_path, **SMALL)
    picture = tmp_path / "lag.png"
    command = processes.wiserl("plot", str(outcome.folder), "--metric", "learner/policy_lag")
    subprocess.run([*command, "--output", str(picture)], check=True, capture_output=True)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_lag_of_a_replay_is_recorded_too(tmp_path):
    settings = {key: SMALL[key] for key in SMALL if key != "n_steps"}
    outcome = wiserl.train(
        "dqn", runs=tmp_path, **settings, segment_length=8, learning_starts=100, buffer_size=600
    )
    assert outcome.metrics["learner/policy_lag_max"] >= outcome.metrics["learner/policy_lag"] >= 0


def test_every_episode_is_recorded_once(tmp_path):
    outcome = wiserl.train("appo", runs=tmp_path, **SMALL)

    episodes = rows(outcome.folder, "episodes")
    assert len(episodes) == outcome.metrics["rollout/episodes"]
    assert 700 < sum(int(row["length"]) for row in episodes) <= 900


def test_a_finished_run_goes_on_with_more_steps(tmp_path):
    first = wiserl.train("appo", runs=tmp_path, **SMALL)
    second = wiserl.resume(first.folder, total_steps=1500)

    assert second.folder == first.folder
    assert second.environment_steps == 1500
    assert second.version > first.version
    assert set(second.losses) <= {"ended", "beyond_budget"}
    assert second.metrics["train/n_updates"] > first.metrics["train/n_updates"]
    steps = [int(row["global_step"]) for row in rows(second.folder)]
    assert steps == sorted(steps)
    assert steps[-1] == 1500


def test_a_run_stops_at_a_return(tmp_path):
    outcome = wiserl.train(
        "impala", runs=tmp_path, stop_at_return=5.0, **{**SMALL, "total_steps": 50_000}
    )

    assert outcome.status == Status.FINISHED
    assert outcome.environment_steps < 50_000
    assert "stop_at_return is 5" in outcome.stop_reason


@pytest.mark.parametrize("algorithm", ["ppo", "trpo"])
def test_those_that_need_rounds_name_those_that_do_not(tmp_path, algorithm):
    with pytest.raises(InvalidFieldError, match="take appo or impala") as caught:
        wiserl.train(algorithm, runs=tmp_path, sync=False, **SMALL)
    assert caught.value.field == "sync"
