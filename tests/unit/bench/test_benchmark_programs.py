"""The programs under benchmarks/ that are more than a loop around a clock, in small."""

import argparse
import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import WiseRLError
from wiserl.bench import tasks

ROOT = Path(__file__).resolve().parents[3]
SPREAD = {"median": 2000.0, "min": 1000.0, "max": 3000.0}
MACHINE = {"processor": "p", "cores": 2, "packages": {"torch": "2"}}


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def page(program, monkeypatch, tmp_path):
    """The page of results that are given by name."""
    report = program("report")
    monkeypatch.setattr(report, "RESULTS", tmp_path)

    def make(**results):
        for name, result in results.items():
            record = {"benchmark": name, "command": "c", "commit": "1", "machine": MACHINE}
            (tmp_path / f"{name}.json").write_text(json.dumps(record | {"result": result}))
        return report.page()

    return make


def run(samplers, seed, lag):
    return {
        "samplers": samplers,
        "seed": seed,
        "score": 400.0 + seed,
        "environment_steps": 1000,
        "target": {"ratio": 0.5, "window": 320.0},
        "ratio": {"min": 0.4, "max": 0.5 + seed / 100, "end": 0.5},
        "lag": {"min": 0.0, "max": lag, "end": 0.0},
        "insert_wait_seconds": 2.0 * samplers,
        "sample_wait_seconds": 1.0,
        "training_seconds": 10.0,
    }


def test_sections_are_left_out_where_there_is_no_data(page):
    assert page().count("\n## ") == 3


def test_samplers_of_each_number_are_a_line(page):
    runs = [run(1, 1, 400), run(1, 2, 500), run(16, 1, 300)]
    settings = {"samplers": [1, 16], "total_steps": 1000}
    text = page(samplers={"settings": settings, "runs": runs})
    assert "## DQN with 1 and 16 samplers\n\nCartPole-v1, 1,000 steps" in text
    assert "| 1 | 401.0, 402.0 | 0.5000 | 0.400 to 0.520 | 0 to 500 | 20 % | 10 % | 100 |" in text
    assert "| 16 | 401.0 | 0.5000 | 0.400 to 0.510 | 0 to 300 | 20 % | 10 % | 100 |" in text
    settings |= {"algorithm": "sac", "env": "Pendulum-v1"}
    text = page(samplers_sac={"settings": settings, "runs": runs})
    assert "## SAC with 1 and 16 samplers\n\nPendulum-v1, 1,000 steps" in text


def test_training_speed_is_told_of_every_algorithm(page):
    speed = {
        "workers": 2,
        "ours": SPREAD,
        "peer": {"system": "peer", **SPREAD},
        "ratio_of_medians": 1.0,
    }
    rounds = speed | {"runs": [{"wait_ms": 7.0, "update_ms": 8.0}]}
    replay = {"wait_ms": 1.0, "update_ms": 2.0, "sample_ms": 3.0}
    text = page(
        training_speed_ppo=rounds | {"algorithm": "ppo"},
        training_speed_dqn=speed | {"algorithm": "dqn", "runs": [replay]},
        training_speed_sac=speed | {"algorithm": "sac", "runs": [replay]},
    )
    assert "Training PPO on CartPole" in text
    assert "8 ms are the update\nand 7 ms the wait" in text
    assert "Training DQN on CartPole" in text
    assert "Training SAC on Pendulum" in text
    assert "for 2.0 ms, draws what they train on for\n3.0 ms" in text


def test_what_was_pushed_stands_beside_raw_bytes(page):
    found = {"kind": "frames", "rows": 16, "slots": 2, "ring": "disk", "mb_per_second": SPREAD}
    text = page(
        ingest={
            "settings": {"clients": 2},
            "raw_mb_per_second": {"median": 4000.0, "min": 4000.0, "max": 4000.0},
            "ingested": [found | {"transitions_per_second": SPREAD}],
        }
    )
    assert "| frames | 16 x 2 | disk | 2,000 (1,000 to 3,000) | 0.50 | 2,000 |" in text


@pytest.fixture
def both_sides(tmp_path):
    """Writes the data of one task in both systems; `ours` and `theirs` are scores."""

    def write(ours, theirs, *, clip_range=0.2):
        for side, scores in (("learning", ours), ("peers", theirs)):
            (tmp_path / side).mkdir()
            for seed, score in enumerate(scores, 100):
                record = {"seed": seed, "score": score, "system": "peer 1", "wall_seconds": 1}
                record["curve"] = {"environment_steps": [], "ep_rew_mean": []}
                record["hyperparameters"] = {"clip_range": 0.2}
                record["configuration"] = {"hyperparameters": {"clip_range": clip_range, "new": 1}}
                (tmp_path / side / f"ppo-cartpole-s{seed}.json").write_text(json.dumps(record))

    return write


@pytest.mark.parametrize(("ours", "verdict"), [(476.5, "met"), (475.0, "MISSED")])
def test_a_peer_may_be_better_by_a_twentieth_of_the_way_from_random(
    page, both_sides, ours, verdict
):
    both_sides([ours] * 3, [500.0] * 3)
    text = page(random_policies={"episodes": 1, "returns": {"CartPole-v1": 20.0}})
    assert "## Beside peer 1" in text
    difference = f"{ours - 500:.1f} [{ours - 500:.1f}, {ours - 500:.1f}]"
    assert f"| 3, 3 | {difference} | -24.0 | {verdict} |" in text


def test_teams_are_beside_chance_and_a_planner(page):
    spread = "mpe2/simple_spread_v3"
    text = page(
        random_policies={"episodes": 1, "returns": {spread: -27.0, "CartPole-v1": 20.0}},
        planners={"episodes": 1, "returns": {spread: {"openai": -5.0, "mpe2": -6.5}}},
    )
    assert f"| {spread} | random -27.00, planner -6.50, planner by earlier rules -5.00 |" in text
    assert "| CartPole-v1 | random" not in text


def test_other_hyperparameters_are_no_comparison(page, both_sides):
    both_sides([500.0], [500.0], clip_range=0.3)
    text = page(random_policies={"episodes": 1, "returns": {"CartPole-v1": 20.0}})
    assert "| settings differ: clip_range |" in text


def test_the_peer_is_told_the_preset_and_what_it_says_is_kept(program, monkeypatch, tmp_path):
    peers = program("peers_learning")
    script = tmp_path / "peer.py"
    script.write_text(
        "import json, sys\n"
        "told = json.load(sys.stdin)\n"
        "print('a warning')\n"
        "print(json.dumps({'returns': [1.0, 4.0], 'told': told, 'environment_steps': 7}))\n"
    )
    monkeypatch.setattr(peers, "SCRIPT", script)
    (task,) = tasks.select(("td3-pendulum",))
    with peers.train(sys.executable, tasks.Unit(task, 101), math.inf) as found:
        told = found["told"]
    assert (found["score"], found["environment_steps"], found["seed"]) == (2.5, 7, 101)
    assert told["total_steps"] == 20_000
    assert told["evaluation_seeds"] == list(range(1_000_000, 1_000_100))
    assert told["hyperparameters"]["gamma"] == 0.98
    assert told["hyperparameters"] == json.loads(json.dumps(found["hyperparameters"]))
    script.write_text("import sys; sys.exit('exploration is unknown')")
    unit = tasks.Unit(task, 101)
    with (
        pytest.raises(WiseRLError, match="exploration is unknown"),
        peers.train(sys.executable, unit, math.inf),
    ):
        pass


@pytest.mark.slow
def test_the_benchmark_of_samplers_runs_and_draws(program, tmp_path):
    samplers = program("samplers")
    options = argparse.Namespace(**samplers.FIRST, total_steps=1500, rows_in_flight=640, episodes=2)
    found = samplers.train(options, samplers=2, seed=0)
    assert found["environment_steps"] == 1500
    assert found["gradient_steps"] == 250
    assert found["ratio"]["end"] == found["target"]["ratio"] == 0.5
    assert found["lag"]["end"] == 0
    assert found["curve"]["environment_steps"][-1] == 1500
    record = {"result": {"settings": {"samplers": [2]}, "runs": [found]}}
    samplers.draw(json.loads(json.dumps(record)), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("env", "worth"),
    [("CartPole-v1", (8, 80)), ("sampler.environments.matrix_games:NonMonotonic", (-8, 2))],
)
def test_random_policies_are_measured_of_one_agent_and_of_several(program, env, worth):
    found = program("random_policies").returns(env, 200)
    assert len(found) == 200
    # 22 on the mean where a pole falls; 8 / 9 - 4 * 12 / 9 in the game, with an error of 0.5.
    assert worth[0] < sum(found) / 200 < worth[1]
    assert found == program("random_policies").returns(env, 200)


@pytest.mark.parametrize("name", ["SpeakerListener", "Spread"])
def test_plans_return_in_mpe2_what_they_were_computed_to(program, name):
    planners = program("planners")
    task, seeds = getattr(planners, name)(), tuple(range(12))
    environment = planners.made(task)
    start = planners.starts(environment, seeds)
    random = np.random.default_rng(0).integers(0, 5, (12, planners.STEPS, task.agents))
    rules = planners.Rules(task, late=True)
    # All to one landmark, where they collide.
    meeting = planners.heading(rules, start, start.landmarks[:, [0] * task.agents])
    for plans in (random, meeting):
        computed = rules.returns(start, np.zeros_like(start.places), plans)
        np.testing.assert_allclose(planners.played(environment, seeds, plans), computed, atol=1e-5)


def test_who_is_told_sooner_plans_better(program):
    planners = program("planners")
    task = planners.SpeakerListener()
    start = planners.starts(planners.made(task), tuple(range(30)))
    late = planners.Rules(task, late=True)
    of_all = [start._replace(goals=np.full(30, goal)) for goal in range(3)]

    def mean(search, rules=late):
        return np.mean([search(rules, each, shakes=0)[0] for each in of_all])

    at_once, told = mean(planners.planned), mean(planners.told_late)
    never = planners.planned(planners.Rules(planners.Uncertain(), late=True), start, shakes=0)[0]
    assert never.mean() < told - 5 < at_once - 5
    assert at_once < mean(planners.planned, planners.Rules(task, late=False)) - 0.5


def test_a_search_never_ends_below_where_it_began(program):
    planners = program("planners")
    task = planners.Spread()
    start = planners.starts(planners.made(task), tuple(range(6)))
    rules = planners.Rules(task, late=True)
    begun = planners.heading(rules, start, start.landmarks)
    before = rules.returns(start, np.zeros_like(start.places), begun)
    found, plans = planners.improved(rules, start, begun, first=0)
    assert (found >= before).all()
    assert found.mean() > before.mean() + 0.5
    np.testing.assert_allclose(found, rules.returns(start, np.zeros_like(start.places), plans))


@pytest.mark.slow
@pytest.mark.parametrize("on_disk", [False, True])
def test_the_benchmark_of_ingest_counts_what_arrives(program, monkeypatch, on_disk):
    ingest = program("ingest")
    monkeypatch.setattr(ingest, "RING_PUSHES", 8)
    found = ingest.ingested("CartPole", 0.5, on_disk=on_disk)
    assert found["pushes_per_second"] > 0
    steps = found["transitions_per_second"] / found["pushes_per_second"]
    assert steps == pytest.approx(256 * 128 - 128)
