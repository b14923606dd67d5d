"""examples/minimal_sampler.py beside real learners: what a stranger's sampler would be held to."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import gymnasium
import numpy as np
import pytest
from front_server import running
from leaning_policy import SIGNATURE, publication
from run_tables import rows

from common.signature import ColumnKey, Role
from learner.front.coordinator import Coordinator
from learner.front.settings import FrontSettings, RunIdentity
from protos.wiserl.v1 import environment_pb2, learner_pb2, learner_pb2_grpc

if TYPE_CHECKING:
    from learner.front.server import FrontServer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/minimal_sampler.py"
SEED = 7


@pytest.fixture
def front():
    cart_pole = environment_pb2.EnvironmentReference(id="CartPole-v1")
    coordinator = Coordinator(
        RunIdentity("run", "none", cart_pole, cart_pole),
        FrontSettings(total_steps=10**6, seed=SEED),
    )
    with running(coordinator) as server:
        yield server


@pytest.fixture
def start():
    """Starts samplers of an address."""
    processes = []

    def start(address: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, EXAMPLE, address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def sampler(front, start):
    return start(front.address)


class Replay:
    """A sampler's environment, stepped with the recorded actions, one reset late."""

    def __init__(self, seed: int) -> None:
        self.environment = gymnasium.make("CartPole-v1")
        self.observation, _ = self.environment.reset(seed=seed)
        self.first, self.ended = True, False

    def row(self, action: int) -> dict[Role, object]:
        row = {
            Role.OBSERVATION: self.observation,
            Role.IS_FIRST: self.first,
            Role.VALID: not self.ended,
            Role.REWARD: 0.0,
            Role.TERMINATED: False,
            Role.TRUNCATED: False,
        }
        self.first = self.ended
        if self.ended:
            self.observation, _ = self.environment.reset()
            self.ended = False
        else:
            self.observation, reward, terminated, truncated, _ = self.environment.step(action)
            self.ended = terminated or truncated
            row |= {Role.REWARD: reward, Role.TERMINATED: terminated, Role.TRUNCATED: truncated}
        row[Role.EPISODE_END] = bool(row[Role.TERMINATED]) or bool(row[Role.TRUNCATED])
        return row


def roll_round(front: FrontServer, version: int, **sizes: int):
    with front.locked() as coordinator:
        coordinator.publish(publication(version, lean=float(version)))
        coordinator.open_round(front.now(), **sizes)
    return front.wait(lambda coordinator: coordinator.closed_round())


def check_fragment(batch, position: int, version: int, replay: Replay) -> None:
    """Every column of a fragment is what the replay of its actions gives."""
    actions = batch.columns[ColumnKey(Role.ACTION)][:, position]
    rows = [replay.row(int(action)) for action in actions]
    for role in rows[0]:
        expected = np.array([row[role] for row in rows])
        assert np.array_equal(batch.columns[ColumnKey(role)][: len(rows), position], expected)
    observations = batch.columns[ColumnKey(Role.OBSERVATION)][:, position]
    assert np.array_equal(observations[-1], replay.observation)
    logits = batch.columns[ColumnKey(Role.RECORD, key="logits")][:, position]
    np.testing.assert_allclose(logits[:, 1], version * observations[:-1, 2], rtol=1e-6)


def check_episodes(batch) -> None:
    assert 0 < batch.columns[ColumnKey(Role.ACTION)].mean() < 1
    ends = batch.columns[ColumnKey(Role.EPISODE_END)]
    assert len(batch.episodes) == ends.sum() > 0
    assert all(episode.length == episode.episode_return > 0 for episode in batch.episodes)


def test_what_it_pushes_is_what_gymnasium_does(front, sampler):
    with front.locked() as coordinator:
        coordinator.open_run(SIGNATURE, fragment_rows=100)
    replay = Replay(SEED)
    sizes = {1: 8, 2: 20, 3: 5}
    for version, n_envs in sizes.items():
        batch = roll_round(front, version, n_envs=n_envs, n_steps=100)
        for position in range(n_envs):
            check_fragment(batch, position, version, replay)
        check_episodes(batch)
    assert sampler.poll() is None
    with front.locked() as coordinator:
        assert not any(coordinator.ledger.metrics().values())
        (status,) = coordinator.watch(front.now(), learner_pb2.WatchRunRequest()).samplers
    # What it rolled last it tells with its next pull.
    assert 0 <= 100 * sum(sizes.values()) - status.progress.rows_rolled <= 100


def test_two_of_them_share_a_round_and_roll_different_environments(front, start):
    with front.locked() as coordinator:
        coordinator.open_run(SIGNATURE, fragment_rows=50)
    both = [start(front.address), start(front.address)]
    front.wait(lambda coordinator: coordinator.samplers == 2 or None)
    replays = Replay(SEED), Replay(SEED + 1)
    for version in (1, 2):
        batch = roll_round(front, version, n_envs=8, n_steps=50)
        for position in range(8):
            check_fragment(batch, position, version, replays[position // 4])
        check_episodes(batch)
    assert [process.poll() for process in both] == [None, None]


def test_it_evaluates_by_version_and_finishes_when_it_is_told_to(front, sampler):
    with front.locked() as coordinator:
        coordinator.open_run(SIGNATURE, fragment_rows=50)
        coordinator.publish(publication(1, lean=-1.0))
        worse = coordinator.start_evaluation(front.now(), [3, 4, 5])
    roll_round(front, 2, n_envs=8, n_steps=50)
    with front.locked() as coordinator:
        better = coordinator.start_evaluation(front.now(), [3, 4, 5])
    worse, better = (
        front.wait(lambda coordinator, i=i: coordinator.finished_evaluation(i))
        for i in (worse, better)
    )
    assert [result.seed for result in worse] == [3, 4, 5] == [result.seed for result in better]
    for result in (*worse, *better):
        assert result.episode.length == result.episode.episode_return
    # Leaning with the pole's fall catches it for a while; leaning against it does not.
    assert max(r.episode.length for r in worse) < min(r.episode.length for r in better)

    with front.locked() as coordinator:
        coordinator.finish("enough")
    output, errors = sampler.communicate(timeout=60)
    assert (sampler.returncode, output.strip(), errors) == (0, "enough", "")


class BusyLearner(learner_pb2_grpc.LearnerServiceServicer):
    """Is not there for the first two calls, and lets nobody in."""

    def __init__(self) -> None:
        self.calls = 0

    def GetRun(self, request, context):  # noqa: N802 - the contract's name
        self.calls += 1
        if self.calls < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        environment = environment_pb2.EnvironmentReference(id="CartPole-v1")
        return learner_pb2.GetRunResponse(
            run_id="run", training_environment=environment, evaluation_environment=environment
        )

    def Register(self, request, context):  # noqa: N802 - the contract's name
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another environment")


def test_it_calls_again_what_was_unavailable_and_stops_at_what_will_not_pass(start):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    busy = BusyLearner()
    learner_pb2_grpc.add_LearnerServiceServicer_to_server(busy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    process = start(f"127.0.0.1:{port}")
    _, errors = process.communicate(timeout=60)
    server.stop(None)
    assert busy.calls == 3
    assert process.returncode == 1
    assert "another environment" in errors


def test_it_is_short_and_imports_nothing_of_ours_but_the_stubs():
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) < 80
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    ours = imported - set(sys.stdlib_module_names)
    assert ours == {"grpc", "gymnasium", "numpy", "onnxruntime", "protos"}


@pytest.mark.learning
@pytest.mark.timeout(600)
def test_a_real_learner_learns_from_it(tmp_path):
    command = [sys.executable, "-m", "wiserl.cli", "learner", "ppo", "--env", "CartPole-v1"]
    command += ["--port", "0", "--total-steps", "20000", "--runs", str(tmp_path), "--quiet"]
    command += ["--eval-points", "1", "--eval-episodes", "10", "--final-eval-episodes", "10"]
    learner = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        lines = (json.loads(line) for line in learner.stderr)
        address = next(line["address"] for line in lines if line["event"] == "learner_listening")
        sampled = subprocess.run(
            [sys.executable, EXAMPLE, address],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert (sampled.returncode, sampled.stderr) == (0, "")
        _, errors = learner.communicate(timeout=60)
        assert learner.returncode == 0, errors
    finally:
        learner.kill()
        learner.communicate()
    (folder,) = tmp_path.glob("CartPole-v1/ppo/*")
    untrained, trained = (float(row["eval/mean_reward"]) for row in rows(folder, "evaluations"))
    assert trained > max(100.0, 4 * untrained)
