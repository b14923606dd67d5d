"""Callbacks in real runs: what they are told, how they stop a run, and how they fail one."""

from __future__ import annotations

import json
import subprocess
import sys

import processes
import pytest
import yaml
from one_process import ONE_PROCESS
from run_tables import rows

import wiserl
from common.errors import WiseRLError
from learner.checkpoints import Checkpoints
from learner.outcome import Status

pytestmark = pytest.mark.usefixtures("own_graph_cache")

SMALL = {
    **ONE_PROCESS,
    "env": "CartPole-v1",
    "total_steps": 600,
    "n_envs": 4,
    "n_steps": 32,
    "eval_points": 1,
    "eval_episodes": 2,
    "final_eval_episodes": 3,
}


class Everything(wiserl.Observer):
    def __init__(self):
        self.events = []
        self.rows = []
        self.episodes = 0

    def opened(self, folder, *, resumed):
        settings = yaml.safe_load(folder.config.read_text())
        self.events.append(("opened", settings["algorithm"], resumed))

    def began(self, version):
        self.events.append(("began", version))

    def episodes_ended(self, episodes):
        self.episodes += len(episodes)

    def trained(self, environment_steps, version, metrics):
        self.rows.append({"version": version, "global_step": environment_steps, **metrics})

    def evaluated(self, evaluation):
        self.events.append(("evaluated", evaluation.final, len(evaluation.returns)))

    def checkpointed(self, environment_steps):
        self.events.append(("checkpointed", environment_steps))

    def ended(self, outcome):
        self.events.append(("ended", outcome.status.value, outcome.final is not None))

    def close(self):
        self.events.append(("close",))


def test_a_callback_hears_what_the_tables_hold(tmp_path):
    heard = Everything()
    outcome = wiserl.train("ppo", runs=tmp_path, callbacks=[heard], **SMALL)
    assert heard.events == [
        ("opened", "ppo", False),
        ("began", 1),
        ("evaluated", False, 2),
        ("evaluated", True, 3),
        ("checkpointed", 600),
        ("ended", "finished", True),
        ("close",),
    ]
    found = rows(outcome.folder)
    assert [{k: v for k, v in row.items() if v} for row in found] == [
        {name: str(value) for name, value in row.items()} for row in heard.rows
    ]
    assert heard.episodes == len(rows(outcome.folder, "episodes"))
    assert heard.rows[-1]["global_step"] == 600


class Stop(wiserl.Observer):
    """Wishes the run to end in every event from the second round on."""

    def __init__(self):
        self.rounds = 0
        self.outcome = None

    def trained(self, environment_steps, version, metrics):
        self.rounds += 1
        if self.rounds == 2:
            raise wiserl.StopTraining("two rounds will do")

    def evaluated(self, evaluation):
        if self.rounds >= 2:
            raise wiserl.StopTraining("still")

    checkpointed = evaluated

    def ended(self, outcome):
        self.outcome = outcome
        raise wiserl.StopTraining("even now")


def test_a_callback_ends_a_run_early_and_in_order(tmp_path):
    stop = Stop()
    outcome = wiserl.train("ppo", runs=tmp_path, callbacks=[stop], **SMALL)
    assert outcome.status == Status.FINISHED
    assert outcome.stop_reason == "two rounds will do"
    assert stop.rounds == 2
    assert 200 < outcome.environment_steps < 300
    assert outcome.version == 3
    assert len(outcome.final.returns) == 3
    assert outcome.final.version == 3
    result = json.loads((outcome.folder / "result.json").read_text())
    assert (result["status"], result["stop_reason"]) == ("finished", "two rounds will do")
    assert len(rows(outcome.folder)) == 2
    assert rows(outcome.folder, "evaluations")[-1]["final"] == "1"
    checkpoint = Checkpoints(outcome.folder / "checkpoints").load()
    assert checkpoint.values["environment_steps"] == outcome.environment_steps


class Break(wiserl.Observer):
    def __init__(self, event):
        setattr(self, event, self.fail)

    def fail(self, *arguments, **named):
        raise ZeroDivisionError("this callback is broken")


@pytest.mark.parametrize(
    "event",
    ["opened", "began", "episodes_ended", "trained", "evaluated", "checkpointed", "ended"],
)
def test_a_callback_that_fails_fails_the_run(tmp_path, event):
    heard = Everything()
    with pytest.raises(WiseRLError, match=f"callback Break failed in {event}: ZeroDivisionError"):
        wiserl.train("ppo", runs=tmp_path, callbacks=[Break(event), heard], **SMALL)
    folder = processes.run_folder(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "failed"
    assert result["error"].startswith(f"callback Break failed in {event}")
    assert ("close",) in heard.events
    if event != "opened":
        checkpoint = Checkpoints(folder / "checkpoints").load()
        assert checkpoint.values["environment_steps"] == result["environment_steps"]
    if event not in {"opened", "began"}:
        assert len(rows(folder)) == len(heard.rows)


CALLBACKS = """
import wiserl


class Chatty(wiserl.Observer):
    def began(self, version):
        print("a callback prints")


class Broken(wiserl.Observer):
    def trained(self, environment_steps, version, metrics):
        raise RuntimeError("on purpose")


class BreaksOneSeed(wiserl.Observer):
    def opened(self, folder, *, resumed):
        self.is_broken = folder.path.name.endswith("-s1")

    def trained(self, environment_steps, version, metrics):
        if self.is_broken:
            raise RuntimeError("on purpose")
"""


@pytest.fixture
def command(tmp_path):
    """Runs `wiserl train` on a small budget in a folder that holds a user's callbacks."""
    (tmp_path / "mine.py").write_text(CALLBACKS)
    (tmp_path / "loud.py").write_text(
        "import gymnasium\n\n\ndef make():\n    print('an environment prints', flush=True)\n"
        "    return gymnasium.make('CartPole-v1')\n"
    )

    def run(*arguments, env="CartPole-v1"):
        return subprocess.run(
            processes.wiserl(
                *("train", "ppo", "--env", env, "--runs", "runs", *processes.SMALL_ROUNDS),
                *("--total-steps", "1200", "--threads", "1", *arguments),
            ),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    return run


@pytest.mark.slow
def test_a_failing_callback_is_told_with_its_traceback_and_the_state_is_saved(command, tmp_path):
    done = command("--callback", "mine:Broken", "--quiet")
    assert done.returncode == 1
    assert "RuntimeError: on purpose" in done.stderr
    assert "mine.py" in done.stderr
    assert "Traceback" in done.stderr
    assert processes.result(tmp_path / "runs")["status"] == "failed"
    folder = processes.run_folder(tmp_path / "runs")
    assert Checkpoints(folder / "checkpoints").load().values["environment_steps"] > 0


@pytest.mark.slow
def test_json_is_all_that_stands_on_stdout(command, tmp_path):
    done = command("--json", "--callback", "mine:Chatty", "--seed", "7", env="loud:make")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert "a callback prints" in done.stderr
    assert (document["algorithm"], document["env"]) == ("ppo", "loud:make")
    (run,) = document["runs"]
    assert (run["seed"], run["status"], run["environment_steps"]) == (7, "finished", 1200)
    assert document["picture"] is None
    mean = run["final_evaluation"]["return_mean"]
    assert run["score"] == mean
    assert document["score"] == {
        "seeds": 1,
        "mean": mean,
        "iqm": mean,
        "iqm_interval_95": [mean, mean],
    }
    assert (tmp_path / run["folder"] / "result.json").is_file()


@pytest.mark.slow
def test_seeds_are_trained_one_after_the_other_whatever_becomes_of_one(command, tmp_path):
    done = command("--seeds", "0-2", "--callback", "mine:BreaksOneSeed", "--quiet")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["seed", "0", "1", "2", "mean", "IQM", "picture:"]
    assert "callback BreaksOneSeed failed in trained: RuntimeError: on purpose" in lines[2]
    assert lines[5].endswith("2 of 3 seeds")
    folders = sorted((tmp_path / "runs/CartPole-v1/ppo").iterdir())
    seeds = [yaml.safe_load((path / "config.yaml").read_text())["run"]["seed"] for path in folders]
    assert sorted(seeds) == [0, 1, 2]
    picture = tmp_path / lines[6].removeprefix("picture: ")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_weights_and_biases_gets_the_curves_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    program = (
        "import json, sys, wiserl\n"
        "from wiserl.weights_and_biases import WeightsAndBiases\n"
        f"settings = json.loads({json.dumps(SMALL)!r})\n"
        "wiserl.train('ppo', runs='runs', callbacks=[WeightsAndBiases()], **settings)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=100)
    folder = processes.run_folder(tmp_path / "runs")
    (kept,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    assert kept.stem == f"run-{(folder / 'wandb.id').read_text()}"
    data = kept.read_bytes()
    for name in (b"rollout/ep_rew_mean", b"train/loss", b"eval/mean_reward", b"global_step"):
        assert name in data
