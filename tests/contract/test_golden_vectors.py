"""The golden vectors of examples/golden/ hold in this ONNX Runtime, and their push is admitted."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import gymnasium
import numpy as np
import onnxruntime
import pytest

from common import signature as signatures
from common import tensors
from common.signature import ColumnKey, Role
from learner.front.admission import Admission
from protos.wiserl.v1 import learner_pb2, tensor_pb2
from sampler.seeding import SlotIdentity

FOLDER = Path(__file__).resolve().parents[2] / "examples/golden"
VECTORS = json.loads((FOLDER / "vectors.json").read_text())
ROWS = VECTORS["fragment"]["rows"]
EXACT = {"rtol": 1e-4, "atol": 1e-4}


def array(shown) -> np.ndarray:
    return np.array(shown["values"], shown["dtype"]).reshape(shown["shape"])


def arrays(part: str) -> list[dict[str, np.ndarray]]:
    return [{name: array(shown) for name, shown in row[part].items()} for row in ROWS]


@pytest.fixture(scope="module")
def signature():
    registration = learner_pb2.RegisterResponse.FromString(
        base64.b64decode(VECTORS["registration"])
    )
    return signatures.from_proto(registration.signature)


@pytest.fixture(scope="module")
def push():
    return learner_pb2.PushTrajectoriesRequest.FromString(
        base64.b64decode(VECTORS["fragment"]["push"])
    )


def test_every_call_is_answered_as_the_file_says(signature):
    session = onnxruntime.InferenceSession(
        FOLDER / "policy.onnx", providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in signature.outputs]
    for inputs, outputs in zip(arrays("inputs"), arrays("outputs"), strict=True):
        assert inputs.keys() == {one.name for one in signature.inputs}
        for name, found in zip(names, session.run(names, inputs), strict=True):
            np.testing.assert_allclose(found, outputs[name], **EXACT, err_msg=name)


def test_each_row_is_fed_what_came_of_the_row_before(signature):
    inputs, outputs, answers = arrays("inputs"), arrays("outputs"), arrays("environment")
    (state,), (following,) = signature.inputs_of(Role.STATE), signature.outputs_of(Role.NEXT_STATE)
    for t in range(1, len(ROWS)):
        assert np.array_equal(inputs[t][state.name], outputs[t - 1][following.name])
        assert np.array_equal(inputs[t]["observation"], answers[t - 1]["observation"])
        assert np.array_equal(inputs[t]["reset"], answers[t - 1]["reset"])
    # It shows an end within, the reset after it, and an end in the last row.
    assert [row["reset"].tolist() for row in answers].count([True, False]) == 1
    assert answers[-1]["truncated"].tolist() == [False, True]


def test_the_push_holds_these_rows(signature, push):
    segment = Admission(signature).segment(push.batch)
    inputs, outputs, answers = arrays("inputs"), arrays("outputs"), arrays("environment")
    assert [column.key for column in signature.columns] == list(segment.columns)

    def column(role, key=""):
        return segment.columns[ColumnKey(role, "", key)]

    for t in range(len(ROWS)):
        assert np.array_equal(column(Role.OBSERVATION)[t], inputs[t]["observation"])
        assert np.array_equal(column(Role.ACTION)[t], outputs[t]["action"])
        log_prob = outputs[t]["record/log_prob"]
        assert np.array_equal(column(Role.RECORD, "log_prob")[t], log_prob)
        assert np.array_equal(column(Role.VALID)[t], ~answers[t]["reset"])
        assert np.array_equal(column(Role.IS_FIRST)[t], inputs[t]["reset"])
        for role in (Role.REWARD, Role.TERMINATED, Role.TRUNCATED):
            assert np.array_equal(column(role)[t], answers[t][role.name.lower()])
    assert np.array_equal(column(Role.OBSERVATION)[-1], answers[-1]["observation"])
    assert np.array_equal(column(Role.STATE, "memory"), inputs[0]["state/memory"])
    ended = column(Role.TERMINATED) | column(Role.TRUNCATED)
    assert np.array_equal(column(Role.EPISODE_END), ended)
    assert ended.sum() == len(segment.episodes) == 2


def test_its_episodes_are_the_sums_of_their_rows(push):
    rewards = np.array([row["reward"] for row in arrays("environment")])
    first, second = push.batch.episodes
    assert (first.slot, first.end_row, first.length, first.terminated) == (3, 2, 3, True)
    assert first.episode_return == rewards[:3, 0].sum()
    assert (second.slot, second.end_row, second.length, second.terminated) == (5, 17, 16, False)
    assert second.episode_return == rewards[:, 1].sum()


def test_bytes_of_tensors():
    for shown in VECTORS["tensors"]:
        message = tensor_pb2.Tensor(
            dtype=tensors.to_wire_dtype(shown["dtype"]),
            shape=shown["shape"],
            data=bytes.fromhex(shown["bytes"]),
        )
        assert np.array_equal(tensors.decode(message), array(shown))
        assert tensors.encode(array(shown)) == message
    assert len(VECTORS["tensors"]) == len(tensor_pb2.DataType.values()) - 1


def test_seeds_and_uniforms():
    for entry in VECTORS["environment_seeds"]:
        expected = entry["environment_seed"]
        address = {name: int(text) for name, text in entry.items() if name != "environment_seed"}
        assert SlotIdentity(**address).environment_seed() == expected
    for k, value in VECTORS["open_uniform"]:
        assert value == np.float32(value) == (k + 0.5) * 2**-23
        assert 0 < value < 1


def test_cart_pole_is_gymnasiums():
    for episode in json.loads((FOLDER / "cartpole.json").read_text()):
        environment = gymnasium.make("CartPole-v1").unwrapped
        environment.reset()
        environment.state = np.array(episode["start"])
        for t, action in enumerate(episode["actions"]):
            observation, _, terminated, _, _ = environment.step(action)
            np.testing.assert_allclose(observation, episode["observations"][t], atol=1e-6)
            is_last = t == len(episode["actions"]) - 1
            assert terminated == (episode["terminated"] and is_last)
