"""What ONNX Runtime does with published policies of every space, against torch and theory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learner_support import box, discrete_spec, draw, image, ppo, roll

from common import spaces, specs, tensors
from common.signature import Noise
from learner.publishing import sessions
from learner.publishing.publisher import Publisher

SPECS = {
    "discrete": specs.single_agent(box(4), spaces.Discrete(3, 2)),
    "continuous": specs.single_agent(box(3), box(2, low=-1.0, high=1.0)),
    "unbounded": specs.single_agent(box(3), box(2)),
    "double": specs.single_agent(box(3, dtype=np.float64), box(2, 1, low=-0.1, dtype=np.float64)),
    "masked_choices": specs.single_agent(
        box(4), spaces.MultiDiscrete((2, 3), (0, -1)), action_mask=True
    ),
    "bits": specs.single_agent(box(4), spaces.MultiBinary((2, 2))),
    "dict": specs.single_agent(
        spaces.Dict(
            {
                "camera": image(10, 10, 3),
                "kinds": spaces.MultiDiscrete((2, 3)),
                "position": box(2),
                "switches": spaces.MultiBinary((3,)),
            }
        ),
        spaces.Discrete(2),
    ),
}


@pytest.fixture(params=SPECS)
def published(request, graph_cache):
    """An algorithm of each kind, after an update, and its publication."""
    algorithm = ppo(SPECS[request.param], n_envs=8, n_steps=32, learning_rate=1e-2)
    publisher = Publisher(algorithm.behaviour, cache=graph_cache)
    algorithm.update(roll(algorithm, publisher.publish(1).model), 0.0)
    return algorithm, publisher.publish(2)


def test_at_a_fresh_version_every_ratio_is_one(published):
    algorithm, publication = published
    metrics = algorithm.update(roll(algorithm, publication.model, seed=1), 0.0)
    assert metrics["train/fresh_ratio_error"] < 1e-5
    stale = algorithm.update(roll(algorithm, publication.model, seed=2), 0.0)
    assert stale["train/fresh_ratio_error"] > 1e-3


def test_the_golden_vector_is_what_another_session_answers(published):
    algorithm, publication = published
    golden = publication.golden()
    assert golden is publication.golden()
    assert [each.name for each in golden.inputs] == [x.name for x in algorithm.behaviour.inputs]
    assert [each.name for each in golden.outputs] == [x.name for x in algorithm.behaviour.outputs]
    session = sessions.session_of(publication.model)
    feeds = {each.name: tensors.decode(each.tensor) for each in golden.inputs}
    found = sessions.run(session, [each.name for each in golden.outputs], feeds)
    for each in golden.outputs:
        expected = tensors.decode(each.tensor)
        np.testing.assert_allclose(found[each.name], expected, rtol=1e-4, atol=1e-4)
        assert found[each.name].dtype == expected.dtype


def test_actions_of_the_graph_come_as_often_as_torch_says(graph_cache):
    algorithm = ppo(discrete_spec(actions=3))
    head = algorithm.behaviour.head[-1]
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.0, 1.0, -1.5]))
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    count = 50_000
    generator = np.random.default_rng(0)
    observation = np.tile(generator.standard_normal(4).astype(np.float32), (count, 1))
    found = sessions.run(
        sessions.session_of(model),
        ["action", "greedy_action", "record/log_prob"],
        {"observation": observation, "noise": draw(generator, Noise.OPEN_UNIFORM, (count, 3))},
    )
    with torch.no_grad():
        logits = algorithm.behaviour.head(torch.from_numpy(observation[:1]))
    expected = torch.softmax(logits, -1)[0].double().numpy()
    frequencies = np.bincount(found["action"], minlength=3) / count
    allowed = 5.0 * np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(frequencies - expected) < allowed).all()
    np.testing.assert_allclose(
        found["record/log_prob"], np.log(expected)[found["action"]], rtol=1e-5
    )
    assert (found["greedy_action"] == 1).all()


def test_normal_actions_of_the_graph_have_their_mean_and_deviation(graph_cache):
    algorithm = ppo(specs.single_agent(box(3), box(1, low=-0.5, high=2.0)), initial_log_std=-0.7)
    with torch.no_grad():
        algorithm.behaviour.head[-1].bias.fill_(0.3)
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    count = 50_000
    generator = np.random.default_rng(0)
    observation = np.zeros((count, 3), np.float32)
    noise = draw(generator, Noise.STANDARD_NORMAL, (count, 1))
    found = sessions.run(
        sessions.session_of(model),
        ["action", "greedy_action", "record/raw_action"],
        {"observation": observation, "noise": noise},
    )
    raw = found["record/raw_action"]
    deviation = np.exp(-0.7)
    assert raw.mean() == pytest.approx(0.3, abs=5 * deviation / np.sqrt(count))
    assert raw.std() == pytest.approx(deviation, rel=0.02)
    np.testing.assert_array_equal(found["action"], raw.clip(-0.5, 2.0))
    np.testing.assert_allclose(found["greedy_action"], 0.3, atol=1e-6)
