"""examples/minimal_sampler.py beside real learners: what a stranger's sampler would be held to."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.signature import (
    ColumnKey,
    ColumnSpec,
    Extent,
    GraphInput,
    GraphOutput,
    Noise,
    Role,
    Signature,
)
from learner.front.coordinator import Coordinator
from learner.front.server import FrontServer
from learner.front.settings import FrontSettings, RunIdentity
from learner.publishing.publication import Publication
from protos.wiserl.v1 import environment_pb2, learner_pb2

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/minimal_sampler.py"
FLOAT, INT, BOOL = (np.dtype(name) for name in ("float32", "int64", "bool"))

SIGNATURE = Signature(
    inputs=(
        GraphInput("seen", Role.OBSERVATION, FLOAT, (4,)),
        GraphInput("gumbel", Role.NOISE, FLOAT, (2,), key="action", noise=Noise.OPEN_UNIFORM),
    ),
    outputs=(
        GraphOutput("action", Role.ACTION, INT),
        GraphOutput("greedy", Role.GREEDY_ACTION, INT),
        GraphOutput("logits", Role.RECORD, FLOAT, (2,), key="logits"),
    ),
    columns=(
        ColumnSpec(ColumnKey(Role.OBSERVATION), FLOAT, (4,), Extent.ROWS_PLUS_ONE),
        ColumnSpec(ColumnKey(Role.ACTION), INT),
        ColumnSpec(ColumnKey(Role.REWARD), FLOAT),
        *(
            ColumnSpec(ColumnKey(role), BOOL)
            for role in (
                Role.TERMINATED,
                Role.TRUNCATED,
                Role.IS_FIRST,
                Role.VALID,
                Role.EPISODE_END,
            )
        ),
        ColumnSpec(ColumnKey(Role.RECORD, key="logits"), FLOAT, (2,)),
    ),
)


def publication(version: int, lean: float) -> Publication:
    """Leans by the pole's angle: logits = lean * (-angle, angle); Gumbel-max over the noise."""
    weights = np.zeros((4, 2), np.float32)
    weights[2] = (-lean, lean)
    nodes = [
        helper.make_node("MatMul", ["seen", "weights"], ["logits"]),
        helper.make_node("Log", ["gumbel"], ["log"]),
        helper.make_node("Neg", ["log"], ["minus"]),
        helper.make_node("Log", ["minus"], ["log_minus"]),
        helper.make_node("Sub", ["logits", "log_minus"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["action"], axis=1, keepdims=0),
        helper.make_node("ArgMax", ["logits"], ["greedy"], axis=1, keepdims=0),
    ]

    def tensor(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["n", *shape])

    graph = helper.make_graph(
        nodes,
        "policy",
        [tensor("seen", TensorProto.FLOAT, 4), tensor("gumbel", TensorProto.FLOAT, 2)],
        [
            tensor("action", TensorProto.INT64),
            tensor("greedy", TensorProto.INT64),
            tensor("logits", TensorProto.FLOAT, 2),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    digest = hashlib.sha256(model).digest()
    return Publication(version, model, digest, learner_pb2.GoldenVector)


@pytest.fixture
def front():
    cart_pole = environment_pb2.EnvironmentReference(id="CartPole-v1")
    coordinator = Coordinator(
        RunIdentity("run", "none", cart_pole, cart_pole), FrontSettings(total_steps=10**6, seed=7)
    )
    server = FrontServer(coordinator)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sampler(front):
    process = subprocess.Popen(
        [sys.executable, EXAMPLE, front.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    yield process
    process.kill()
    process.communicate()


def seed_of(slot: int, incarnation: int) -> int:
    text = f"wiserl/7/0/{slot}/{incarnation}/environment"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") & (2**31 - 1)


class Replay:
    """One slot's environment, stepped with the recorded actions, one reset late."""

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


def test_what_it_pushes_is_what_gymnasium_does(front, sampler):
    with front.locked() as coordinator:
        coordinator.open_run(SIGNATURE, fragment_rows=100)
    replays: list[Replay] = []
    for version, n_envs in ((1, 8), (2, 8), (3, 5)):
        batch = roll_round(front, version, n_envs=n_envs, n_steps=100)
        if not replays:
            incarnation = batch.episodes[0].incarnation
            replays = [Replay(seed_of(slot, incarnation)) for slot in range(8)]
        actions = batch.columns[ColumnKey(Role.ACTION)]
        for slot in range(n_envs):
            rows = [replays[slot].row(int(action)) for action in actions[:, slot]]
            for role in rows[0]:
                ours = np.array([row[role] for row in rows])
                assert np.array_equal(batch.columns[ColumnKey(role)][: len(rows), slot], ours)
            last = batch.columns[ColumnKey(Role.OBSERVATION)][-1, slot]
            assert np.array_equal(last, replays[slot].observation)
        logits = batch.columns[ColumnKey(Role.RECORD, key="logits")]
        angle = batch.columns[ColumnKey(Role.OBSERVATION)][:-1, :, 2]
        np.testing.assert_allclose(logits[..., 1], version * angle, rtol=1e-6)
        assert 0 < actions.mean() < 1
        ends = batch.columns[ColumnKey(Role.EPISODE_END)]
        assert len(batch.episodes) == ends.sum() > 0
        assert all(episode.length == episode.episode_return > 0 for episode in batch.episodes)
    assert sampler.poll() is None


def test_a_slot_may_owe_several_fragments_and_a_gap_is_counted(front, sampler):
    with front.locked() as coordinator:
        coordinator.open_run(SIGNATURE, fragment_rows=10)
    assert roll_round(front, 1, n_envs=20, n_steps=10).steps > 0
    assert roll_round(front, 2, n_envs=3, n_steps=10).steps > 0
    assert roll_round(front, 3, n_envs=8, n_steps=10).steps > 0


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


def test_it_imports_nothing_of_ours_but_the_stubs():
    imported = set()
    for node in ast.walk(ast.parse(EXAMPLE.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    ours = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours == {"grpc", "gymnasium", "numpy", "onnxruntime", "protos.wiserl.v1"}


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
    (path,) = tmp_path.glob("CartPole-v1/ppo/*/evaluations.csv")
    with path.open() as file:
        untrained, trained = (float(row["eval/mean_reward"]) for row in csv.DictReader(file))
    assert trained > max(100.0, 4 * untrained)
