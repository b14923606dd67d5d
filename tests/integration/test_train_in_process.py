from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
import refused_imports
import yaml
from one_process import ONE_PROCESS
from run_tables import rows

import wiserl
from common.errors import InvalidFieldError, WiseRLError
from learner.checkpoints import Checkpoints
from learner.front.coordinator import Coordinator
from learner.observer import Observer
from learner.outcome import Status

pytestmark = pytest.mark.usefixtures("own_graph_cache")

SMALL = {
    **ONE_PROCESS,
    "env": "CartPole-v1",
    "total_steps": 700,
    "n_envs": 6,
    "n_steps": 32,
    "eval_points": 2,
    "eval_episodes": 3,
    "final_eval_episodes": 4,
    "samplers": 2,
    "workers": 2,
}


def without_time(found):
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in found]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return wiserl.train("ppo", runs=tmp_path_factory.mktemp("runs"), seed=3, **SMALL)


def test_a_run_is_finished_exactly_on_its_budget(outcome):
    assert outcome.status == Status.FINISHED
    assert outcome.environment_steps == 700
    assert outcome.first_update_seconds < outcome.seconds


def test_the_folder_holds_the_whole_record(outcome):
    names = {path.name.split(".out.")[0] for path in outcome.folder.iterdir()}
    assert names == {
        "checkpoints",
        "config.yaml",
        "curve.png",
        "episodes.csv",
        "evaluations.csv",
        "events",
        "header.bin",
        "metrics.csv",
        "policy.json",
        "policy.onnx",
        "provenance.json",
        "result.json",
        "run_id",
    }


def test_metrics_follow_the_rounds(outcome):
    found = rows(outcome.folder)
    assert [row["version"] for row in found] == [str(i + 2) for i in range(len(found))]
    assert found[-1]["global_step"] == "700"
    for name in ("rollout/ep_rew_mean", "train/loss", "time/fps"):
        assert float(found[-1][name])


def test_evaluations_stand_in_the_order_of_versions_the_final_one_last(outcome):
    found = rows(outcome.folder, "evaluations")
    assert [(row["final"], row["episodes"]) for row in found] == [
        ("0", "3"),
        ("0", "3"),
        ("1", "4"),
    ]
    assert found[0]["global_step"] == "0"
    assert int(found[1]["global_step"]) >= 350
    assert found[2]["global_step"] == "700"
    assert int(found[2]["version"]) == len(rows(outcome.folder)) + 1


def test_the_result_says_how_it_ended(outcome):
    result = json.loads((outcome.folder / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["environment_steps"] == 700
    assert result["final_evaluation"]["return_mean"] == sum(outcome.final.returns) / 4
    assert result["final_evaluation"]["seeds"] == [1_000_000 + i for i in range(4)]


def test_the_same_seed_gives_the_same_record_and_another_seed_another(outcome, tmp_path):
    again = wiserl.train("ppo", runs=tmp_path, seed=3, **SMALL)
    for name in ("episodes.csv", "evaluations.csv", "policy.onnx"):
        assert (again.folder / name).read_bytes() == (outcome.folder / name).read_bytes()
    first, second = (rows(one.folder) for one in (outcome, again))
    assert without_time(first) == without_time(second)
    other = wiserl.train("ppo", runs=tmp_path, seed=4, **SMALL)
    assert (other.folder / "episodes.csv").read_bytes() != (
        outcome.folder / "episodes.csv"
    ).read_bytes()


def test_the_settings_of_a_run_make_it_again(outcome, tmp_path):
    settings = yaml.safe_load((outcome.folder / "config.yaml").read_text())
    assert settings["local"]["envs_per_worker"] == 2
    assert settings["run"]["sync"] is True
    assert settings["hyperparameters"]["n_steps"] == 32
    again = wiserl.train(
        "ppo", env="CartPole-v1", runs=tmp_path, config=outcome.folder / "config.yaml"
    )
    assert (again.folder / "policy.onnx").read_bytes() == (
        outcome.folder / "policy.onnx"
    ).read_bytes()
    assert (again.folder / "config.yaml").read_bytes() == (
        outcome.folder / "config.yaml"
    ).read_bytes()


def test_the_saved_policy_acts_and_plays_as_the_run_said(outcome):
    agent = wiserl.load(outcome.folder)
    assert agent.act([0.0, 0.0, 0.1, 0.5]) in {0, 1}
    with pytest.raises(InvalidFieldError, match="trained for"):
        agent.act([0.0, 0.0])
    command = ("eval", str(outcome.folder), "--episodes", "4", "--json")
    done = subprocess.run(
        refused_imports.wiserl(*command, refused={"torch"}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["returns"] == list(outcome.final.returns)


def test_an_observer_is_told_everything_in_order(tmp_path):
    class Recorder(Observer):
        def __init__(self):
            self.calls = []

        def began(self, version):
            self.calls.append(("began", version))

        def trained(self, environment_steps, version, metrics):
            self.calls.append(("trained", environment_steps, version, metrics["time/fps"] > 0))

        def evaluated(self, evaluation):
            self.calls.append(("evaluated", evaluation.version, evaluation.final))

    recorder = Recorder()
    settings = SMALL | {"total_steps": 300, "eval_points": 1}
    wiserl.train("ppo", runs=tmp_path, callbacks=[recorder], **settings)
    assert recorder.calls[0] == ("began", 1)
    trained = [call for call in recorder.calls if call[0] == "trained"]
    assert [call[2] for call in trained] == [2, 3]
    assert trained[-1][1:] == (300, 3, True)
    evaluated = [call for call in recorder.calls if call[0] == "evaluated"]
    assert evaluated == [("evaluated", 1, False), ("evaluated", 3, True)]


def test_a_class_of_the_users_own_trains(tmp_path, monkeypatch):
    (tmp_path / "my_algorithm.py").write_text(
        "from learner.algorithms.ppo import PPO\n\n\nclass Mine(PPO):\n    name = 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = SMALL | {"total_steps": 192}
    found = wiserl.train("my_algorithm:Mine", runs=tmp_path / "runs", **settings)
    assert found.status == Status.FINISHED
    assert found.folder.parts[-2] == "my_algorithm-Mine"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"learning_rat": 1}, InvalidFieldError, "no setting learning_rat; did you mean learning_"),
        ({"total_steps": 0}, InvalidFieldError, "total_steps: 0 is below 1"),
        ({"env": "Nothing-v0"}, WiseRLError, "Nothing"),
        ({"device": "quantum"}, InvalidFieldError, "device: 'quantum' is none"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        wiserl.train("ppo", runs=tmp_path / "runs", **(SMALL | changes))


def test_a_run_without_settings_leaves_no_folder(tmp_path):
    with pytest.raises(InvalidFieldError):
        wiserl.train("ppo", runs=tmp_path / "runs", **(SMALL | {"learning_rat": 1}))
    assert not (tmp_path / "runs").exists()


def test_an_error_of_the_environment_is_in_the_result(tmp_path, monkeypatch):
    (tmp_path / "my_environment.py").write_text(
        "import gymnasium\n\n\n"
        "class Broken(gymnasium.Wrapper):\n"
        "    def step(self, action):\n"
        "        raise RuntimeError('the wheel came off')\n\n\n"
        "def make():\n"
        "    return Broken(gymnasium.make('CartPole-v1'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = SMALL | {"env": "my_environment:make"}
    with pytest.raises(RuntimeError, match="the wheel came off"):
        wiserl.train("ppo", runs=tmp_path / "runs", **settings)
    (path,) = (tmp_path / "runs").glob("*/*/*/result.json")
    result = json.loads(path.read_text())
    assert (result["status"], result["error"]) == ("failed", "RuntimeError: the wheel came off")


MASKED = """
import gymnasium
import numpy as np


class Masked(gymnasium.Env):
    # The reward is 1 for the one available action; every other one is an error.
    action_space = gymnasium.spaces.Discrete(3, start=1)
    observation_space = gymnasium.spaces.Dict(
        {
            "position": gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float64),
            "inner": gymnasium.spaces.Dict({"kind": gymnasium.spaces.Discrete(3)}),
            "action_mask": gymnasium.spaces.MultiBinary(3),
        }
    )

    def _observe(self):
        self.kind = int(self.np_random.integers(3))
        mask = np.zeros(3, np.int8)
        mask[self.kind] = 1
        position = self.np_random.uniform(-1, 1, 2)
        return {"position": position, "inner": {"kind": self.kind}, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        assert action == self.kind + 1, "not available"
        self.steps += 1
        info = {"is_success": True} if self.steps == 10 else {}
        return self._observe(), 1.0, False, self.steps == 10, info
"""


def test_nested_observations_masks_and_a_discrete_start_go_all_the_way(tmp_path, monkeypatch):
    (tmp_path / "masked_environment.py").write_text(MASKED)
    monkeypatch.syspath_prepend(tmp_path)
    settings = SMALL | {"env": "masked_environment:Masked"}
    found = wiserl.train("ppo", runs=tmp_path / "runs", **settings)
    assert set(found.final.returns) == {10.0}
    assert float(rows(found.folder)[-1]["rollout/success_rate"]) == 1.0
    agent = wiserl.load(found.folder)
    for kind in range(3):
        observation = {"position": np.zeros(2), "inner": {"kind": kind}}
        mask = np.arange(3) == kind
        assert agent.act(observation, action_mask=mask) == kind + 1
        assert agent.act(observation | {"action_mask": mask.astype(np.int8)}) == kind + 1
    with pytest.raises(InvalidFieldError, match="action_mask: has 2 entries"):
        agent.act(observation, action_mask=[1, 0])
    with pytest.raises(InvalidFieldError, match="lacks the key 'inner/kind'"):
        agent.act({"position": np.zeros(2), "inner": {}})


def test_continuous_actions_are_arrays_within_bounds(tmp_path):
    settings = SMALL | {"env": "Pendulum-v1", "total_steps": 200, "eval_points": 0}
    found = wiserl.train("ppo", runs=tmp_path, **settings)
    action = wiserl.load(found.folder).act(np.array([1.0, 0.0, 8.0]))
    assert action.shape == (1,)
    assert action.dtype == np.float32
    assert abs(action[0]) <= 2


def test_a_checkpoint_that_cannot_be_written_is_told_and_ends_nothing(tmp_path, monkeypatch):
    told = []
    save, set_metrics = Checkpoints.save, Coordinator.set_metrics

    def full_twice(self, *arguments):
        if len(told) < 2:
            raise OSError(28, "No space left on device")
        save(self, *arguments)

    def listen(self, metrics):
        told.extend(value for name, value in metrics.items() if name.startswith("checkpoint/"))
        set_metrics(self, metrics)

    monkeypatch.setattr(Checkpoints, "save", full_twice)
    monkeypatch.setattr(Coordinator, "set_metrics", listen)
    outcome = wiserl.train("ppo", runs=tmp_path, **SMALL | {"checkpoint_seconds": 1e-9})
    assert outcome.status == Status.FINISHED
    assert told[:3] == [1, 2, 0]
    assert list((outcome.folder / "checkpoints").iterdir())
