"""`wiserl presets`, presets of a user's own, and what is shipped of the benchmark's data."""

from __future__ import annotations

import json

import pytest

from common.errors import InvalidFieldError
from learner import presets
from learner.config import RunConfig
from wiserl import cli, known_presets
from wiserl.bench import reached, tasks
from wiserl.settings import Settings

OWN = """
default: {hyperparameters: {epochs: 9}}
Mine-v0:
  run: {total_steps: 777}
  hyperparameters: {n_steps: 32, n_minibatches: 2}
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return path


def test_all_algorithms_are_listed_with_what_they_reached(capsys):
    assert cli.main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {tuple(line.split()[:2]) for line in lines[1:]}
    for algorithm in presets.algorithms():
        names = ("default", *presets.environments(algorithm))
        assert {(algorithm, name) for name in names} <= found
    (line,) = (line for line in lines if line.startswith("dqn") and " CartPole-v1 " in line)
    assert "50,000" in line
    assert str(reached.load()["dqn", "CartPole-v1"]) in line


def test_of_one_algorithm_the_settings_that_differ_are_shown(capsys):
    assert cli.main(["presets", "dqn"]) == 0
    text = capsys.readouterr().out
    (cart_pole,) = (part for part in text.split("\nA")[0].split("\nC") if "artPole-v1" in part)
    assert "    n_step: 5\n" in cart_pole
    assert "    total_steps: 50000\n" in cart_pole
    assert "double" not in cart_pole, "this is as by default"


def test_json_has_settings_and_results(capsys):
    assert cli.main(["presets", "ppo", "--json"]) == 0
    found = {one["environment"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["CartPole-v1"]["settings"]["gae_lambda"] == 0.8
    assert found["CartPole-v1"]["reached"]["seeds"] >= 5
    assert found["default"]["reached"] is None


def test_ones_own_presets_lie_above_the_projects(own, capsys):
    assert presets.environments("ppo", own)[-1] == "Mine-v0"
    settings = Settings.gather("ppo", environment="Mine-v0", own_presets=own, variables={})
    assert settings.applied(RunConfig(), "run").total_steps == 777
    assert [layer.origin for layer in settings.layers] == [
        "preset ppo, default",
        f"{own}, default",
        f"{own}, Mine-v0",
    ]
    assert settings.peek("hyperparameters", "n_envs") == 8
    assert cli.main(["presets", "ppo", "--presets", str(own), "--json"]) == 0
    mine = json.loads(capsys.readouterr().out)[-1]
    assert mine["settings"]["epochs"] == 9
    assert mine["total_steps"] == 777


def test_a_variable_names_ones_own_presets(own):
    settings = Settings.gather(
        "ppo", variables={"WISERL_PRESETS": str(own), "WISERL_ENV": "Mine-v0"}
    )
    assert settings.peek("hyperparameters", "n_steps") == 32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- 1", "no mapping of environments"),
        ("{", "no YAML"),
        ("X: {hyper: {}}", "hyperparameters"),
    ],
)
def test_a_file_that_holds_no_presets_is_refused(tmp_path, text, says):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InvalidFieldError, match=says):
        presets.load("ppo", "X", path)
    with pytest.raises(InvalidFieldError, match="cannot be read"):
        presets.load("ppo", "X", tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("arguments", [["nothing"], ["--presets", "x.yaml"]])
def test_presets_of_no_algorithm_are_an_error(arguments, capsys):
    assert cli.main(["presets", *arguments]) == cli.USAGE_ERROR
    assert "wiserl: error:" in capsys.readouterr().err


def record(score, **hyperparameters):
    return {"score": score, "configuration": {"hyperparameters": hyperparameters}}


def test_what_is_shipped_says_which_settings_are_others_now():
    (task,) = tasks.select(("ppo-cartpole",))
    records = [record(10.0, gamma=0.9, gone=1), record(20.0, gamma=0.9, gone=1)]
    same = reached.of_task(task, records, {"gamma": 0.9, "new": 2})
    assert (same.iqm, same.seeds, same.changed) == (15.0, 2, ())
    other = reached.of_task(task, records, {"gamma": 0.99})
    assert other.changed == ("gamma",)
    assert str(other).endswith("over 2 seeds of 100,000 steps, with another gamma")


def test_what_is_shipped_can_be_read_back(tmp_path, monkeypatch):
    found = reached.Reached("ppo", "X-v0", 10, 2, 1.5, 1.0, 2.0, ("gamma",))
    path = tmp_path / "reached.yaml"
    path.write_text(reached.dump([found]))
    monkeypatch.setattr(reached, "FILE", path)
    assert reached.load() == {("ppo", "X-v0"): found}


def test_every_preset_is_found_by_its_algorithm():
    assert {one.algorithm for one in known_presets.find()} == set(presets.algorithms())
    assert {one.algorithm for one in known_presets.find("sac")} == {"sac"}
