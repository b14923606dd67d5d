"""A run that is told to stop in the middle of an update, which may take minutes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import processes
import pytest
import torch
from one_process import ONE_PROCESS
from run_tables import rows
from torch import nn

import wiserl
from learner.algorithms.optimiser import FlatAdam
from learner.checkpoints import Checkpoints
from learner.outcome import Status
from learner.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("own_graph_cache")

SMALL = {
    **ONE_PROCESS,
    "env": "CartPole-v1",
    "total_steps": 640,
    "n_envs": 2,
}
ROUNDS = {"n_steps": 16, "n_minibatches": 2}
REPLAY = {"learning_starts": 64, "buffer_size": 640, "batch_size": 8, "replay_ratio": 1.0}
REPLAY |= {"replay_window": 64}

STEPS = 3
"""Gradient steps before the signal: fewer than any update of these takes."""


@pytest.fixture
def taken(monkeypatch):
    """The gradient steps that were taken, after `STEPS` of which the process is told to stop."""
    taken = []
    descend = FlatAdam.descend

    def counted(adam):
        norm = descend(adam)
        taken.append(norm)
        if len(taken) == STEPS:
            signal.raise_signal(signal.SIGTERM)
        return norm

    monkeypatch.setattr(FlatAdam, "descend", counted)
    return taken


@pytest.mark.parametrize(
    ("algorithm", "given"),
    [
        ("ppo", {**ROUNDS, "epochs": 20}),
        ("trpo", {**ROUNDS, "critic_epochs": 20}),
        ("appo", {**ROUNDS, "epochs": 20}),
        ("dqn", REPLAY),
        ("dqn", {**REPLAY, "sync": True}),
    ],
)
def test_a_signal_is_noticed_before_the_next_gradient_step(tmp_path, taken, algorithm, given):
    outcome = wiserl.train(algorithm, runs=tmp_path, **SMALL, **given)
    assert len(taken) == STEPS
    assert (outcome.status, outcome.signal) == (Status.STOPPED, signal.SIGTERM)
    assert processes.result(tmp_path)["status"] == "stopped"


def test_an_update_that_was_left_makes_no_policy_and_its_rows_count_as_lost(tmp_path, taken):
    stopped = wiserl.train("ppo", runs=tmp_path, **SMALL, **ROUNDS, epochs=20)
    assert (stopped.version, stopped.environment_steps, rows(stopped.folder)) == (1, 0, [])
    folder = RunFolder(stopped.folder)
    saved = Checkpoints(folder.checkpoints).load()
    assert (saved.values["rows"], saved.values["version"]) == (0, 1)
    assert saved.tensors["optimiser.step"].item() == STEPS
    taken.clear()
    taken += [None] * (STEPS + 1)  # it is told to stop no more
    outcome = wiserl.resume(stopped.folder, epochs=1)
    assert (outcome.status, outcome.environment_steps) == (Status.FINISHED, 640)
    assert outcome.losses["lost_in_restart"]["rows"] == 32


class Slow(nn.Module):
    """A network of a user's own whose updates never come to an end by themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 8)
        self.stuck = os.environ.get("SLOW_NETWORK_STUCK")

    def forward(self, observation):
        features = torch.tanh(self.layer(observation))
        if features.requires_grad and not torch.onnx.is_in_onnx_export():
            Path(os.environ["SLOW_NETWORK_TRAINS"]).touch()
            time.sleep(0.05)
            while self.stuck:
                # The first Ctrl-C gives the handler back that ends the process.
                if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                    Path(self.stuck).touch()
                time.sleep(0.05)
        return features


def slow(space):
    return Slow(space.shape[0])


@contextlib.contextmanager
def slow_training(tmp_path, monkeypatch):
    """A run in the middle of its first update, and the processes that it started."""
    monkeypatch.setenv("SLOW_NETWORK_TRAINS", str(tmp_path / "trains"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    command = processes.wiserl(
        *("train", "ppo", "--env", "CartPole-v1", "--runs", str(tmp_path / "runs"), "--quiet"),
        *("--network", "test_stopping_runs:slow", *processes.SMALL_ROUNDS),
        *("--epochs", "1000000", "--threads", "1"),
    )
    with processes.process(command, tmp_path / "log") as process:
        processes.until("an update", (tmp_path / "trains").exists)
        children = processes.descendants(process.pid)
        assert children
        try:
            yield process
            processes.until("their end", lambda: not any(map(processes.is_alive, children)))
        finally:
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_an_update_that_takes_for_ever_is_left(tmp_path, monkeypatch):
    with slow_training(tmp_path, monkeypatch) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(processes.PATIENCE_SECONDS) == 128 + signal.SIGTERM, (
            tmp_path / "log"
        ).read_text()
    assert processes.result(tmp_path / "runs")["status"] == "stopped"


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_run_that_does_not_notice_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SLOW_NETWORK_STUCK", str(tmp_path / "told"))
    with slow_training(tmp_path, monkeypatch) as process:
        process.send_signal(signal.SIGINT)
        processes.until("the first", (tmp_path / "told").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(processes.PATIENCE_SECONDS) == 128 + signal.SIGINT, (
            tmp_path / "log"
        ).read_text()
    assert not (processes.run_folder(tmp_path / "runs") / "result.json").exists()
