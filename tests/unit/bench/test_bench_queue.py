from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import signal
import subprocess
import sys

import processes
import pytest

from common.errors import InvalidFieldError, WiseRLError
from wiserl import cli
from wiserl.bench import learning, report, tasks
from wiserl.bench.queue import Queue, TakenError, run


@pytest.fixture
def task():
    return tasks.Task("t", "ppo", "CartPole-v1", 256, 2, (7, 8), gate=5, stretch=500)


def record(seed, score, curve=((100, 1.0), (200, 6.0), (300, 4.0))):
    steps, values = zip(*curve, strict=True)
    return {
        "seed": seed,
        "score": score,
        "wall_seconds": 10.0 + seed,
        "curve": {"environment_steps": steps, "ep_rew_mean": values},
    }


def test_every_task_names_its_seeds_and_a_preset():
    every = tasks.load()
    assert {"ppo-cartpole", "ppo-pendulum"} <= every.keys()
    for task in every.values():
        assert len(set(task.seeds)) == len(task.seeds) >= 3
        assert not set(range(6)).intersection(task.seeds), "presets were tuned on these"
        assert task.gate <= task.stretch


def test_units_take_turns_over_tasks(task):
    other = tasks.Task("u", "ppo", "Acrobot-v1", 1, 1, (3,), gate=0, stretch=1)
    order = [(unit.task.name, unit.seed) for unit in tasks.units([task, other])]
    assert order == [("t", 7), ("u", 3), ("t", 8)]


def test_an_unknown_task_is_named_with_those_there_are():
    with pytest.raises(WiseRLError, match=r"no task nonsense.*ppo-cartpole"):
        tasks.select(("nonsense",))


def test_tasks_may_be_of_ones_own(tmp_path):
    path = tmp_path / "tasks.yaml"
    fields = "env: X-v0, total_steps: 5, episodes: 1, seeds: [1], gate: 0, stretch: 1"
    path.write_text(f"mine: {{algorithm: 'm:C', {fields}}}")
    (found,) = tasks.select((), path)
    assert (found.algorithm, found.seeds) == ("m:C", (1,))
    for text in (f"mine: {{{fields}}}", "mine: {algorithm: m}", "[1]", "{"):
        path.write_text(text)
        with pytest.raises(InvalidFieldError, match="each with algorithm, env, total_steps"):
            tasks.load(path)


def test_finished_units_are_skipped(tmp_path, task):
    (tmp_path / "t-s7.json").write_text("{}")
    trained = []

    @contextlib.contextmanager
    def train(unit, _seconds):
        trained.append(unit.seed)
        yield {"score": 1.0, "wall_seconds": 1.0}

    work = functools.partial(Queue(tmp_path, train).work, tasks.units([task]), minutes=1)
    assert (work(report=list), work(report=list)) == (1, 0)
    assert trained == [8]


def test_no_time_starts_nothing(tmp_path, task):
    said = []
    assert Queue(tmp_path, train=None).work(tasks.units([task]), minutes=0, report=said.append) == 0
    assert not said
    assert not list(tmp_path.iterdir())


def test_the_table_says_what_was_reached(tmp_path, task):
    for seed, score in ((7, 4.0), (8, 9.0)):
        (tmp_path / f"t-s{seed}.json").write_text(json.dumps(record(seed, score)))
    line = report.table(tmp_path, [task]).splitlines()[-1]
    assert "| 2 | 6.5 [4.0, 9.0] | 5 met | 500 | 4.0, 9.0 | 200, 200 | 18 |" in line


def test_a_missed_gate_and_a_task_not_run_are_said_plainly(tmp_path, task):
    assert "not run" in report.table(tmp_path, [task])
    slow = record(7, 1.0, curve=((100, 1.0),))
    (tmp_path / "t-s7.json").write_text(json.dumps(slow))
    assert "5 MISSED" in report.table(tmp_path, [task])
    assert "| - |" in report.table(tmp_path, [task])


@pytest.mark.slow
def test_a_unit_runs_and_is_stamped(tmp_path, task):
    queue, said = Queue(tmp_path, learning.Training(tmp_path / "unfinished")), []
    unit = tasks.units([task])[0]
    assert queue.work([unit], minutes=math.inf, report=said.append) == 1
    found = json.loads(queue.path(unit).read_text())
    assert found["seed"] == 7
    assert found["environment_steps"] == 256
    assert found["score"] == found["result"]["final_evaluation"]["return_mean"]
    assert found["code_sha256"] == learning.code_hash()
    assert str(tmp_path) not in json.dumps(found)
    assert "seed 7" in said[0]
    assert found["sittings"] == 1
    assert not list((tmp_path / "unfinished").iterdir())


class Command:
    """In place of `wiserl train`: the first sitting is cut off, and any after it finishes."""

    def __init__(self, folder):
        self.folder, self.told = folder, []

    def __call__(self, command, _seconds):
        self.told.append(command[3:])
        run = self.folder / "t-s7" / "CartPole-v1" / "ppo" / "20260101-000000-s7"
        first = not run.exists()
        (run / "checkpoints" / "generation-00000001").mkdir(parents=True, exist_ok=True)
        (run / "metrics.csv").write_text("global_step,rollout/ep_rew_mean\n256,5.0\n")
        if first:
            return None
        final = {"final_evaluation": {"return_mean": 5.0}, "environment_steps": 256}
        (run / "result.json").write_text(json.dumps({**final, "status": "finished"}))
        known = dict.fromkeys(("git", "versions", "machine", "started"), "x")
        (run / "provenance.json").write_text(json.dumps(known))
        (run / "config.yaml").write_text("algorithm: ppo")
        return ""


@pytest.fixture
def command(tmp_path, monkeypatch):
    found = Command(tmp_path)
    monkeypatch.setattr(learning.queue, "run", found)
    return found


@pytest.fixture
def sit(tmp_path, task):
    """Has a sitting; answers its result."""

    def have(definition=task):
        with learning.Training(tmp_path)(tasks.units([definition])[0], math.inf) as found:
            return found

    return have


def test_a_unit_that_was_stopped_goes_on_from_its_folder(tmp_path, command, sit):
    assert sit() is None
    began = tmp_path / "t-s7" / "sittings.json"
    os.utime(began, (began.stat().st_atime, began.stat().st_mtime - 100))

    found = sit()

    (run,) = command.told[1][2:3]
    assert command.told[0][:4] == ["train", "ppo", "--env", "CartPole-v1"]
    assert command.told[1] == ["train", "--resume", run, "--quiet"]
    assert run.endswith("t-s7/CartPole-v1/ppo/20260101-000000-s7")
    assert found["command"].endswith("--runs RUNS --quiet")
    assert found["code_sha256"] == learning.code_hash()
    assert found["sittings"] == 2
    assert 100 <= found["wall_seconds"] < 130
    assert not (tmp_path / "t-s7").exists()


@pytest.mark.parametrize("change", ["code", "task", "damage"])
def test_what_cannot_go_on_begins_anew(change, task, command, sit, monkeypatch):
    sit()
    note = command.folder / "t-s7" / "sittings.json"
    if change == "code":
        monkeypatch.setattr(learning, "code_hash", lambda: "other")
    elif change == "task":
        task = dataclasses.replace(task, total_steps=512)
    else:
        note.write_text('{"command": ')

    assert sit(task) is None
    assert [told[1] for told in command.told] == ["ppo", "ppo"]
    assert json.loads(note.read_text())["count"] == 1


def test_a_result_that_could_not_be_kept_is_there_for_the_next_sitting(
    tmp_path, task, command, sit
):
    sit()
    with (
        pytest.raises(OSError, match="no room"),
        learning.Training(tmp_path)(tasks.units([task])[0], math.inf) as result,
    ):
        raise OSError("no room")

    assert sit() == result
    assert len(command.told) == 2


def test_what_another_queue_is_at_is_left_to_it(tmp_path, task, command):
    train, said = learning.Training(tmp_path), []
    with train(tasks.units([task])[0], math.inf):
        queue = Queue(tmp_path / "results", train)
        queue.work(tasks.units([task])[:1], minutes=1, report=said.append)
        assert len(command.told) == 1
        with pytest.raises(TakenError), train(tasks.units([task])[0], math.inf):
            pass
    assert said == ["t seed 7 ...", "t seed 7: another queue is at it"]


def test_a_run_that_cannot_go_on_is_an_error_with_its_remedy(tmp_path, command, sit, monkeypatch):
    sit()

    def fail(*_):
        raise WiseRLError("the header is damaged")

    monkeypatch.setattr(learning.queue, "run", fail)
    with pytest.raises(
        WiseRLError, match=f"damaged\nremove {tmp_path}/t-s7 to begin this run anew"
    ):
        sit()


def test_the_verb_shows_the_table_without_running(tmp_path, capsys):
    assert cli.main(["bench", "learning", "--minutes", "0", "--results", str(tmp_path)]) == 0
    assert "ppo-cartpole" in capsys.readouterr().out


def test_what_returns_are_beside_is_said_by_environment(task):
    beside = {"theirs": -6.5, "others (10M)": -7.25}
    anchored = [
        dataclasses.replace(task, name=name, env="X-v0", anchors=beside) for name in ("a", "b")
    ]
    assert report.beside([task], {}) is None
    bare = dataclasses.replace(task, env="Z-v0")
    here = {"X-v0": {"random": -26.2}, "Z-v0": {"random": 1.0, "planner": 7.125}}
    lines = report.beside([task, *anchored, bare], here | {task.env: {"random": 0.0}}).splitlines()
    assert lines[2:] == [
        "| X-v0 | random -26.20 | theirs -6.5, others (10M) -7.25 |",
        "| Z-v0 | random 1.00, planner 7.12 | - |",
    ]
    assert report.beside(anchored, {}) is None


def test_small_returns_have_decimals_that_tell_them_apart(task):
    small = dataclasses.replace(task, gate=0.1, stretch=0.4)
    assert "| 0.26 [0.25, 0.26] | 0.1 met | 0.4 |" in report.row(
        small, [record(7, 0.25), record(8, 0.26)]
    )
    assert "| 7.0 [7.0, 7.0] |" in report.row(task, [record(7, 7.0)])


@pytest.fixture
def late_sigterm():
    """What is started meets SIGTERM only when it is ready for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.usefixtures("late_sigterm")
def test_what_takes_too_long_is_told_to_stop(tmp_path):
    note = tmp_path / "told"
    script = (
        "import signal, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: exit(open({str(note)!r}, 'w').close()))\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})\n"
        "time.sleep(600)"
    )
    assert run([sys.executable, "-c", script], 0.1) is None
    assert note.exists()


@pytest.mark.usefixtures("late_sigterm")
def test_what_does_not_stop_is_killed(monkeypatch):
    monkeypatch.setattr("wiserl.bench.queue._SECONDS_TO_STOP", 0.1)
    assert run([sys.executable, "-c", "import time; time.sleep(600)"], 0.1) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_the_queue_runs_ends_with_it(tmp_path, number):
    note = tmp_path / "pid"
    script = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    program = (
        f"from wiserl.bench import queue; queue.run([{sys.executable!r}, '-c', {script!r}], 99)"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    processes.until("a process id", lambda: note.exists() and note.read_text())
    process.send_signal(number)
    assert process.wait(60) == -number
    processes.until("its end", lambda: not processes.is_alive(int(note.read_text())))
