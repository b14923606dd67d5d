"""What cannot go on is refused in words; what can goes on, though it was finished or killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess

import processes
import pytest

from learner import header
from learner.run_folder import RunFolder

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_graph_cache"),
]

STEPS, MORE = 1_024, 2_048


@pytest.fixture(scope="module")
def finished(tmp_path_factory, own_graph_cache):
    """The folder of runs with a finished one."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    command = processes.wiserl(
        *("train", "ppo", "--env", "CartPole-v1", "--total-steps", str(STEPS), "--in-process"),
        *("--runs", str(runs), "--quiet", *processes.SMALL_ROUNDS, "--final-eval-episodes", "300"),
    )
    subprocess.run(command, check=True)
    return runs


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "runs")
    return RunFolder(processes.run_folder(tmp_path / "runs"))


def resume(folder, *flags):
    """The arguments of a learner that goes on with a run."""
    return processes.wiserl("learner", "--resume", str(folder), "--quiet", *flags)


def refused(command):
    """Exit code and message of a command that is to be refused at once."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        ((), 2, f"total_steps: {STEPS} are done already"),
        (("--total-steps", str(MORE), "--env", "Acrobot-v1"), 2, "env: 'Acrobot-v1' is not that"),
        (("--total-steps", str(MORE), "--seed", "7"), 2, "seed: 7 is not that"),
        (("--total-steps", str(MORE), "--config", "x.yaml"), 2, "exclude each other"),
    ],
    ids=["finished", "env", "seed", "config"],
)
def test_a_run_that_cannot_go_on_so_is_refused(finished, flags, code, named):
    folder = RunFolder(processes.run_folder(finished))
    before = header.read(folder.header), folder.result.read_bytes(), folder.config.read_bytes()
    found, message = refused(resume(folder.path, *flags))
    assert found == code
    assert named in message
    after = header.read(folder.header), folder.result.read_bytes(), folder.config.read_bytes()
    assert after == before


@pytest.mark.parametrize("lacks", ["folder", "config", "identity", "header"])
def test_a_folder_that_is_no_run_is_refused(run, lacks):
    with contextlib.suppress(AttributeError):
        getattr(run, lacks).unlink()
    if lacks == "folder":
        shutil.rmtree(run.path)
    code, message = refused(resume(run.path, "--total-steps", str(MORE)))
    assert code in {1, 2}
    assert str(run.path) in message
    assert "name" in message
    # Killed in its first seconds, a run has an identity and no settings.
    assert ("start a new run" in message) == (lacks == "config")


def test_a_finished_run_goes_on_and_only_once_at_a_time(run, tmp_path):
    """Also where it is killed in its last evaluation: how it ended before says nothing of that."""
    port = processes.free_port()
    more = resume(run.path, "--total-steps", str(MORE), "--port", str(port))
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(processes.process(more, tmp_path / "first.log"))
        processes.until("a second process", lambda: header.read(run.header).restarts == 1)
        code, message = refused(resume(run.path, "--total-steps", str(MORE)))
        assert code == 1
        assert "in use by another learner process" in message

        address = ("--learner", f"127.0.0.1:{port}", "--workers", "1", "--envs-per-worker", "8")
        sampler = stack.enter_context(
            processes.process(processes.wiserl("sampler", *address), tmp_path / "sampler.log")
        )
        processes.until(
            "the whole budget",
            lambda: header.read(run.header).environment_steps == MORE,
            pause_seconds=0.001,
        )
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert not run.is_finished

        again = resume(run.path, "--port", str(port))
        second = stack.enter_context(processes.process(again, tmp_path / "second.log"))
        assert second.wait(processes.PATIENCE_SECONDS) == 0
        assert sampler.wait(processes.PATIENCE_SECONDS) == 0
    result = processes.result(tmp_path / "runs")
    assert (result["status"], result["environment_steps"]) == ("finished", MORE)
    assert "Traceback" not in (tmp_path / "second.log").read_text()
    assert header.read(run.header).restarts == 2
