from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import onnxruntime
import pytest
from saved_policy import BOUND, SIGNATURE, run_with, saved

from common.errors import WiseRLError
from wiserl import cli
from wiserl import export as exporting
from wiserl.export import export


def test_a_greedy_export_takes_the_observation_alone():
    exported = export(saved())
    session = onnxruntime.InferenceSession(exported.model)
    assert [tensor.name for tensor in session.get_inputs()] == ["observation"]
    assert [tensor.name for tensor in session.get_outputs()] == ["greedy_action"]
    leaning = np.array([[0, 0, 0.1, 0], [0, 0, -0.1, 0], [0, 0, 0.1, -1]], np.float32)
    (actions,) = session.run(None, {"observation": leaning})
    assert actions.tolist() == [1, 0, 0]


def test_a_stochastic_export_keeps_what_exploration_needs():
    exported = export(saved(epsilon=0.25), stochastic=True)
    assert [tensor.name for tensor in exported.inputs] == ["observation", "noise", "epsilon"]
    assert [tensor.name for tensor in exported.outputs] == ["action"]
    described = {one["name"]: one for one in exported.description["inputs"]}
    assert described["noise"]["noise"] == "open_uniform"
    assert described["epsilon"]["value"] == 0.25


def test_the_description_is_enough_to_feed_the_model(tmp_path):
    path = tmp_path / "made" / "policy.onnx"
    description = export(saved()).write(path)
    said = json.loads(description.read_text())
    assert description == tmp_path / "made" / "policy.json"
    assert said["model"] == "policy.onnx"
    assert said["model_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert said["inputs"] == [
        {"name": "observation", "role": "observation", "dtype": "float32", "shape": ["batch", 4]}
    ]
    assert said["action_space"] == {"kind": "Discrete", "n": 2, "start": 0}
    high = [float(BOUND[0]), None, float(BOUND[2]), None]
    assert said["observation_space"]["high"] == high
    fed = {name: np.array(values, np.float32) for name, values in said["example"]["inputs"].items()}
    (actions,) = onnxruntime.InferenceSession(path).run(None, fed)
    assert actions.tolist() == said["example"]["outputs"]["greedy_action"]


def test_a_model_that_answers_otherwise_is_not_exported(monkeypatch):
    other = saved()
    wrong = np.array([[0], [0], [-1], [1]], np.float32).tobytes()
    right = np.array([[0], [0], [1], [1]], np.float32).tobytes()
    restricted = exporting.graphs.restricted
    monkeypatch.setattr(
        exporting.graphs, "restricted", lambda *given: restricted(*given).replace(right, wrong)
    )
    with pytest.raises(WiseRLError, match="greedy_action differs"):
        export(other)


def test_a_damaged_model_is_refused():
    with pytest.raises(WiseRLError, match="no ONNX model"):
        export(dataclasses.replace(saved(), model=b"nothing"))


def test_a_large_example_is_left_out(monkeypatch):
    monkeypatch.setattr(exporting, "_MOST_NUMBERS", 5)
    assert export(saved()).description["example"] is None


def test_the_verb_says_what_it_wrote(tmp_path, capsys):
    folder = run_with(saved(), tmp_path / "run")
    assert cli.main(["export", str(folder.path)]) == 0
    model = folder.path / "export" / "policy.onnx"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{model}: byhand on CartPole-v1, policy 7 after 5,000 steps")
    assert lines[1:3] == [
        "  in  observation: float32 [batch, 4]",
        "  out greedy_action: int64 [batch]",
    ]
    assert model.is_file()
    assert len(SIGNATURE.inputs) == 3


@pytest.mark.parametrize(
    ("output", "said"),
    [("run/policy.onnx", "the run's own policy"), ("policy.bin", "end in .onnx")],
)
def test_the_verb_refuses_a_place(tmp_path, monkeypatch, capsys, output, said):
    run_with(saved(), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "run", "-o", output]) == cli.USAGE_ERROR
    assert said in capsys.readouterr().err
