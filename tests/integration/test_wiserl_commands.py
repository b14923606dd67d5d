from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import processes
import pytest
import refused_imports

pytestmark = pytest.mark.usefixtures("own_graph_cache")

TINY = (*processes.SMALL_ROUNDS, "--threads", "1", "--quiet")
LONG = ("--total-steps", "100000000")


def run(*arguments, **keywords):
    return subprocess.run(
        processes.wiserl(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        **keywords,
    )


@contextlib.contextmanager
def training(tmp_path, *arguments):
    """A run that is under way, and the processes that it started."""
    command = processes.wiserl(
        *("train", "ppo", "--env", "CartPole-v1", "--runs", str(tmp_path / "runs")),
        *(*TINY, *LONG, *arguments),
    )
    with processes.process(command, tmp_path / "log") as process:
        processes.until("a round", lambda: processes.steps_so_far(tmp_path / "runs") > 0)
        children = processes.descendants(process.pid)
        try:
            yield process, children
        finally:
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_train_says_where_the_run_is_and_how_well_it_does(tmp_path):
    runs = tmp_path / "runs"
    done = run(
        *("train", "ppo", "--env", "CartPole-v1", "--runs", str(runs), *TINY),
        *("--total-steps", "1500", "--samplers", "2", "--workers", "2"),
    )
    assert done.returncode == 0, done.stderr
    folder = processes.run_folder(runs)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1,500 steps in")
    mean = processes.result(runs)["final_evaluation"]["return_mean"]
    assert lines[1].startswith(f"final policy: return {mean:.2f} +- ")
    assert lines[1].endswith(")")
    assert "over 4 greedy episodes" in lines[1]
    assert lines[2] == f"run folder: {folder}"
    assert done.stderr == ""
    assert {path.name for path in folder.glob("sampler-*.log")} == {
        "sampler-0.log",
        "sampler-1.log",
    }
    assert (folder / "curve.png").is_file()


@pytest.mark.slow
def test_a_learner_and_a_sampler_make_a_run(tmp_path):
    port = str(processes.free_port())
    command = processes.wiserl(
        *("learner", "ppo", "--env", "CartPole-v1", "--port", port, "--expect-samplers", "1"),
        *("--runs", str(tmp_path / "runs"), "--total-steps", "1500", *TINY),
    )
    with processes.process(command, tmp_path / "log") as learner:
        done = run("sampler", "--learner", f"127.0.0.1:{port}", "--workers", "1")
        assert done.returncode == 0, done.stderr
        assert learner.wait(60) == 0, (tmp_path / "log").read_text()
    assert processes.result(tmp_path / "runs")["status"] == "finished"


@pytest.mark.slow
def test_a_sampler_that_is_killed_is_started_again_and_the_run_goes_on(tmp_path):
    with training(tmp_path) as (process, children):
        (sampler,) = [child for child in children if "wiserl.child" in command_line(child)]
        os.kill(sampler, signal.SIGKILL)
        log = next((tmp_path / "runs").glob("*/*/*/sampler-0.log"))
        processes.until("another registration", lambda: log.read_text().count('"registered"') == 2)
        before = processes.steps_so_far(tmp_path / "runs")
        processes.until(
            "a round after it", lambda: processes.steps_so_far(tmp_path / "runs") > before
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert "sampler_restarted" in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", [(), ("--in-process",)])
def test_a_signal_drains(tmp_path, number, where):
    with training(tmp_path, *where) as (process, children):
        assert bool(children) == (not where)
        process.send_signal(number)
        assert process.wait(60) == 128 + number, (tmp_path / "log").read_text()
        processes.until("their end", lambda: not any(map(processes.is_alive, children)))
    result = processes.result(tmp_path / "runs")
    folder = processes.run_folder(tmp_path / "runs")
    assert result["status"] == "stopped"
    assert result["environment_steps"] == processes.steps_so_far(tmp_path / "runs")
    assert list((folder / "checkpoints").glob("generation-*"))
    assert (folder / "policy.onnx").is_file()
    assert "stopped before the end" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_nothing_outlives_a_killed_run(tmp_path):
    with training(tmp_path, "--samplers", "2") as (process, children):
        assert len(children) >= 4
        process.kill()
        processes.until("their end", lambda: not any(map(processes.is_alive, children)))


@pytest.mark.slow
def test_what_no_sampler_can_build_ends_the_run_with_the_reason(tmp_path):
    # It is there and can be called, but not without arguments: only building it tells.
    done = run("train", "ppo", "--env", "json:dumps", "--runs", str(tmp_path / "runs"), *TINY)
    assert done.returncode == 1
    assert "sampler 0 stopped with exit code 5" in done.stderr
    assert "json:dumps" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes.result(tmp_path / "runs")["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train",), 2, "is missing before the flags; name one (appo, ddpg"),
        (("train", "pppo", "--env", "X"), 2, "'pppo' is none"),
        (("train", "ppo"), 2, "env: is missing"),
        (("train", "ppo", "--env", "X", "--workers", "-1"), 2, "workers: -1 is below 0"),
        (("train", "ppo", "--config", "nothing.yaml"), 2, "nothing.yaml: cannot be read"),
        (("train", "ppo", "--env", "CartPole-v1", "--gama", "1"), 2, "--gamma"),
        (("train", "ppo", "--env", "CartPole-v9"), 2, "env: CartPole-v9: there is no such"),
        (("train", "ppo", "--env", "mine:nothing"), 2, "env: 'mine:nothing': No module named"),
        (("learner", "ppo", "--env", "X", "--host", "::"), 1, "--insecure"),
        (("eval", "nowhere"), 1, "holds no policy"),
        (("plot", "nowhere"), 2, "there is no run in nowhere"),
        (("eval", "nowhere", "--episodes", "0"), 2, "episodes: 0 is below 1"),
        (("export", "nowhere"), 1, "does not exist"),
        (("sampler", "--learner", "nowhere"), 2, "is no HOST:PORT"),
        (("watch", "nowhere"), 2, "is no HOST:PORT"),
        (("watch", "127.0.0.1:1", "--connect-timeout-seconds", "0.1"), 3, "no learner at"),
        (("watch", "--interval-seconds", "-1"), 2, "interval_seconds: -1"),
        (("doctor", "nowhere"), 2, "is no HOST:PORT"),
        (("dance",), 2, "there is no verb 'dance'"),
        (("train", "ppo", "--env", "X", "--total-steps", "1.5e0"), 2, "'1.5e0' is no integer"),
    ],
)
def test_what_cannot_be_is_said_in_words(tmp_path, arguments, code, message):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "usage: wiserl VERB"),
        (("--help",), "usage: wiserl VERB"),
        (("--version",), "wiserl "),
        (("train", "--help"), "--total-steps"),
        (("train", "ppo", "--env", "Pendulum-v1", "--help"), "--gae-lambda"),
        (("learner", "--help"), "--expect-samplers"),
        (("sampler", "--help"), "--allow-module"),
        (("enjoy", "--help"), "--video-episodes"),
        (("export", "--help"), "--output"),
        (("watch", "--help"), "--once"),
        (("doctor", "--help"), "HOST:PORT"),
        (("plot", "--help"), "--output"),
    ],
)
def test_every_verb_explains_itself(arguments, expected):
    done = run(*arguments)
    assert done.returncode == (0 if arguments else 2)
    assert expected in done.stdout + done.stderr


@pytest.mark.slow
def test_a_trained_policy_is_played_filmed_and_exported_without_torch(tmp_path):
    runs = tmp_path / "runs"
    done = run(
        *("train", "ppo", "--env", "CartPole-v1", "--runs", str(runs), *TINY),
        *("--total-steps", "1500", "--in-process"),
    )
    assert done.returncode == 0, done.stderr
    folder = str(processes.run_folder(runs))
    final = processes.result(runs)["final_evaluation"]
    played = without_torch("eval", folder, "--episodes", "4", "--video", "--json")
    said = json.loads(played)
    assert said["returns"] == final["returns"]
    assert [Path(video).is_file() for video in said["videos"]] == [True] * 3
    without_torch("export", folder, "-o", str(tmp_path / "policy.onnx"))
    assert json.loads((tmp_path / "policy.json").read_text())["outputs"][0]["dtype"] == "int64"


def test_a_closed_pipe_is_no_defect():
    line = " ".join(
        [*processes.wiserl("--print-completion", "bash"), "| true; exit ${PIPESTATUS[0]}"]
    )
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_help_shows_the_values_of_the_preset():
    done = run("train", "ppo", "--env", "CartPole-v1", "--help")
    shown = " ".join(done.stdout.replace("│", " ").split())
    assert "--gamma FLOAT Discount of rewards a step later. (default: 0.98)" in shown


def without_torch(*arguments: str) -> str:
    """What the command prints where torch cannot be imported."""
    done = subprocess.run(
        refused_imports.wiserl(*arguments, refused={"torch"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_sampler_imports_neither_torch_nor_the_learner():
    code = (
        "from wiserl.cli import main\n"
        "import sampler.supervisor, sampler.process_pool\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ("sampler", "--learner", "127.0.0.1:1", "--connect-timeout-seconds", "0.1")
    done = subprocess.run(
        refused_imports.program(code, *arguments, refused={"torch", "onnx", "learner"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3, done.stderr
    stopped = json.loads(done.stderr.splitlines()[-1])
    assert stopped["event"] == "sampler_stopped"


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
