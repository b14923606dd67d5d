"""DQN's update on transitions made by hand, and its policy in ONNX Runtime."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from learner_support import (
    ACTION,
    CPU,
    OBSERVATION,
    assert_same,
    box,
    discrete_spec,
    draw,
    image,
    parameters,
)
from transitions_support import MASK, transitions_of

from common import spaces, specs
from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.signature import ColumnKey, Noise, Role
from learner.algorithms.device_means import DeviceMeans
from learner.algorithms.dqn import DQN, DQNConfig
from learner.experience.transitions import Transitions
from learner.exploration import Ladder
from learner.publishing import sessions
from learner.publishing.publisher import Publisher

SPECS = {
    "numbers": discrete_spec(),
    "start": specs.single_agent(box(4), spaces.Discrete(3, -1)),
    "masked": specs.single_agent(box(4), spaces.Discrete(3), action_mask=True),
    "bytes": specs.single_agent(image(10, 10, 3), spaces.Discrete(2)),
    "bools": specs.single_agent(
        box(10, 10, 4, low=False, high=True, dtype=np.bool_), spaces.Discrete(3)
    ),
    "nature": specs.single_agent(image(1, 36, 36), spaces.Discrete(2)),
    "dict": specs.single_agent(
        spaces.Dict({"camera": image(10, 10, 3), "kind": spaces.Discrete(2), "speed": box(2)}),
        spaces.Discrete(2),
    ),
}


def dqn(spec=None, *, seed: int = 0, **config) -> DQN:
    """A small DQN."""
    given = {"batch_size": 8, "hidden_sizes": (16,), **config}
    return DQN(spec or discrete_spec(), DQNConfig(**given), device=CPU, seed=seed)


def make_linear(algorithm: DQN, online, target) -> None:
    """Makes Q(s, a) the product of observations with a column of numbers for each action."""
    for network, weights in ((algorithm._values, online), (algorithm._target.network, target)):
        (head,) = network.head
        with torch.no_grad():
            head.weight.copy_(torch.tensor(weights))
            head.bias.zero_()


def hand_made(**changes) -> Transitions:
    """Three one-hot transitions: one goes on, one terminated, one was cut off after two steps."""
    eye = np.eye(3, dtype=np.float32)
    given = {
        "rows": np.arange(3),
        "writes": np.zeros(3, np.int64),
        "columns": {OBSERVATION: eye, ACTION: np.array([0, 1, 1])},
        "next_columns": {OBSERVATION: eye[[1, 2, 0]]},
        "returns": np.array([1.0, 2.0, 3.0], np.float32),
        "discounts": np.array([0.9, 0.0, 0.81], np.float32),
        "weights": np.ones(3, np.float32),
    }
    return Transitions(**{**given, **changes})


# Q(s, a) of three one-hot states and two actions, [action][state].
ONLINE = [[1.0, 0.0, 0.0], [2.0, 1.0, 0.0]]
TARGET = [[10.0, 20.0, 30.0], [1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("double", "targets"),
    [
        # The online network takes action 1 in states 0 and 1, which the target network says is
        # worth 1 and 2; the target network itself would take action 0.
        (True, [1 + 0.9 * 2, 2, 3 + 0.81 * 1]),
        (False, [1 + 0.9 * 20, 2, 3 + 0.81 * 10]),
    ],
)
def test_errors_are_those_of_targets_by_hand(double, targets):
    algorithm = dqn(
        discrete_spec(box(3)), hidden_sizes=(), double=double, prioritised=True, learning_rate=1e-9
    )
    make_linear(algorithm, ONLINE, TARGET)
    errors = algorithm.update(hand_made(), 0.0)
    # Q of the actions taken: state 0 action 0, state 1 action 1, state 2 action 1.
    expected = np.abs(np.array([1.0, 1.0, 0.0]) - targets)
    np.testing.assert_allclose(errors.numpy(), expected, rtol=1e-6)
    assert not errors.requires_grad
    loss = np.where(expected < 1, expected**2 / 2, expected - 0.5).mean()
    assert algorithm.metrics()["train/loss"] == pytest.approx(loss)


@pytest.mark.parametrize("double", [True, False])
def test_an_action_that_will_not_be_available_is_worth_nothing(double):
    spec = specs.single_agent(box(3), spaces.Discrete(2), action_mask=True)
    algorithm = dqn(spec, hidden_sizes=(), double=double, prioritised=True, learning_rate=1e-9)
    make_linear(algorithm, ONLINE, TARGET)
    batch = hand_made()
    mask = np.array([[True, False], [False, False], [False, True]])
    batch.columns[MASK] = np.ones((3, 2), np.bool_)
    batch.next_columns[MASK] = mask
    errors = algorithm.update(batch, 0.0).numpy()
    # State 1 has action 0 only, state 0 action 1 only; where nothing is available it ended.
    expected = [abs(1 - (1 + 0.9 * 20)), abs(1 - 2), abs(0 - (3 + 0.81 * 1))]
    np.testing.assert_allclose(errors, expected, rtol=1e-6)


def gradient(batch: Transitions, **config) -> torch.Tensor:
    """The gradient of the head's weights by the first update."""
    algorithm = dqn(discrete_spec(box(3)), hidden_sizes=(), max_gradient_norm=None, **config)
    make_linear(algorithm, ONLINE, TARGET)
    algorithm.update(batch, 0.0)
    return algorithm._values.head[0].weight.grad.clone()


def test_the_gradient_is_the_clipped_error_of_the_action_taken():
    found = gradient(hand_made(), double=True)
    # Errors -1.8, -1 and -3.81, clipped to -1, in a mean over three.
    expected = -torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]) / 3
    torch.testing.assert_close(found, expected)
    squared = gradient(hand_made(), double=True, loss="squared")
    torch.testing.assert_close(squared, expected * torch.tensor([1.8, 1.0, 3.81]))


def test_importance_weights_scale_each_transition():
    weights = np.array([1.0, 0.5, 0.25], np.float32)
    found = gradient(hand_made(weights=weights), double=True, prioritised=True)
    expected = -torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.25]]) / 3
    torch.testing.assert_close(found, expected)


def test_uniform_replay_gets_no_errors():
    algorithm = dqn()
    assert algorithm.update(transitions_of(algorithm), 0.0) is None


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_every_space_trains_and_says_how_it_went(name, dueling):
    algorithm = dqn(SPECS[name], dueling=dueling)
    before = parameters(algorithm)
    for seed in range(3):
        algorithm.update(transitions_of(algorithm, seed=seed), 0.5)
    metrics = algorithm.metrics()
    assert metrics.keys() == {
        "train/loss",
        "train/q_value",
        "train/gradient_norm",
        "train/learning_rate",
        "train/n_updates",
    }
    assert metrics["train/n_updates"] == 3.0
    assert all(np.isfinite(number) for number in metrics.values()), metrics
    after = algorithm.tensors()
    unchanged = {key for key, tensor in before.items() if torch.equal(tensor, after[key])}
    assert {name for name in unchanged if not name.startswith("target.")} == set()
    assert algorithm.metrics() == {}


def test_the_target_network_is_copied_every_so_many_steps():
    algorithm = dqn(target_update_interval=3)
    target = algorithm._target.network.state_dict()
    first = {name: tensor.clone() for name, tensor in target.items()}
    batch = transitions_of(algorithm)
    for _ in range(2):
        algorithm.update(batch, 0.0)
    assert_same(first, target)
    algorithm.update(batch, 0.0)
    assert_same(dict(algorithm._values.state_dict()), target)
    algorithm.update(batch, 0.0)
    assert not torch.equal(target["head.0.weight"], algorithm._values.head[0].weight)


def test_the_target_network_goes_a_share_of_the_way():
    algorithm = dqn(target_update_interval=1, target_tau=0.25)
    before = algorithm._target.network.head[0].weight.clone()
    algorithm.update(transitions_of(algorithm), 0.0)
    online, target = algorithm._values.head[0].weight, algorithm._target.network.head[0].weight
    torch.testing.assert_close(target, before + 0.25 * (online - before))
    assert not target.requires_grad


def test_gradients_are_clipped_by_their_norm():
    batch = transitions_of(dqn())
    free, held = dqn(max_gradient_norm=None), dqn(max_gradient_norm=1e-3)
    for algorithm in (free, held):
        algorithm.update(batch, 0.0)
    norm = free.metrics()["train/gradient_norm"]
    assert held.metrics()["train/gradient_norm"] == pytest.approx(norm)
    held_norm = torch.linalg.vector_norm(held._adam._gradient).item()
    assert held_norm == pytest.approx(1e-3, rel=1e-2)


def test_the_learning_rate_falls_where_asked():
    constant, linear = dqn(), dqn(learning_rate_schedule="linear")
    for algorithm in (constant, linear):
        algorithm.update(transitions_of(algorithm), 0.75)
    assert constant.metrics()["train/learning_rate"] == 5e-4
    assert linear.metrics()["train/learning_rate"] == pytest.approx(1.25e-4)


def test_epsilon_falls_with_the_steps_of_all_samplers():
    algorithm = dqn(initial_epsilon=0.9, final_epsilon=0.1, exploration_steps=1000)
    found = [algorithm.scalars(steps)["epsilon"] for steps in (0, 500, 1000, 5000)]
    assert found == pytest.approx([0.9, 0.5, 0.1, 0.1])
    assert dqn(exploration_steps=0, final_epsilon=0.2).scalars(1)["epsilon"] == pytest.approx(0.2)


def test_the_ladder_is_over_all_slots_and_does_not_fall():
    algorithm = dqn(exploration="ladder")
    assert algorithm.scalars(0) == algorithm.scalars(10**6) == {"epsilon": Ladder(0.4, 7.0)}
    rungs = Ladder(0.4, 7.0).values(0, 8, 8)
    np.testing.assert_allclose(rungs, [0.4 ** (1 + i) for i in range(8)])


def test_beta_goes_to_one():
    algorithm = dqn(prioritised=True, priority_beta=0.4)
    assert [algorithm.beta(x) for x in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.7, 1.0])


def test_the_store_is_told_what_it_needs():
    settings = dqn(
        buffer_size=500,
        segment_length=25,
        gamma=0.9,
        n_step=3,
        clip_rewards=True,
        learning_starts=1,
    ).replay
    found = (settings.capacity, settings.block_rows, settings.gamma, settings.n_step)
    assert found == (500, 25, 0.9, 3)
    assert settings.clip_rewards
    assert settings.priority_exponent is None
    assert dqn(prioritised=True).replay.priority_exponent == 0.6


@pytest.mark.parametrize("name", ["numbers", "bools"])
def test_the_same_seed_and_transitions_give_the_same_bits(name):
    first, second = dqn(SPECS[name], seed=3), dqn(SPECS[name], seed=3)
    torch.manual_seed(99)
    for seed in range(3):
        batch = transitions_of(first, seed=seed)
        first.update(batch, 0.1)
        second.update(batch, 0.1)
    assert_same(parameters(first), parameters(second))
    assert first.metrics() == second.metrics()


@pytest.mark.parametrize("config", [{}, {"loss": "squared"}, {"prioritised": True}])
@pytest.mark.parametrize("name", ["numbers", "masked"])
def test_a_step_by_hand_is_a_step_by_autograd(name, config):
    by_hand, by_autograd = (dqn(SPECS[name], hidden_sizes=(16, 8), **config) for _ in range(2))
    assert by_hand._direct is not None
    by_autograd._direct = by_autograd._target_direct = None
    weights = np.random.default_rng(0).random(8).astype(np.float32)
    for seed in range(3):
        batch = dataclasses.replace(transitions_of(by_hand, seed=seed), weights=weights)
        by_hand.update(batch, 0.0)
        by_autograd.update(batch, 0.0)
    found, expected = by_hand.tensors(), by_autograd.tensors()
    for tensor, reference in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(tensor, reference, rtol=1e-4, atol=1e-6)
    assert by_hand.metrics() == pytest.approx(by_autograd.metrics(), rel=1e-4)


@pytest.mark.parametrize("dueling", [False, True])
def test_a_restored_algorithm_goes_on_bit_for_bit(dueling):
    config = {"dueling": dueling, "prioritised": True, "target_update_interval": 3}
    first = dqn(**config)
    for seed in range(2):
        first.update(transitions_of(first, seed=seed), 0.0)
    restored = dqn(seed=17, **config)
    restored.load_tensors(parameters(first))
    restored.load_values(json.loads(json.dumps(first.values())))
    for seed in range(2, 6):
        batch = transitions_of(first, seed=seed)
        assert torch.equal(first.update(batch, 0.2), restored.update(batch, 0.2))
    assert_same(parameters(first), parameters(restored))


def test_a_state_of_another_network_is_refused_by_name():
    with pytest.raises(InvalidFieldError, match="another algorithm, environment or network"):
        dqn(dueling=True).load_tensors(dqn().tensors())
    with pytest.raises(InvalidFieldError, match=r"of shape \(16, 4\), needed is \(16, 5\)"):
        dqn(discrete_spec(box(5))).load_tensors(dqn().tensors())


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (box(1), "dqn takes Discrete actions, these are a Box.*take ppo"),
        (spaces.MultiDiscrete((2, 3)), "a MultiDiscrete.*one Discrete with a wrapper"),
        (spaces.Dict({"a": spaces.Discrete(2)}), "a Dict"),
    ],
)
def test_other_actions_are_refused_with_what_could_be_done(action, reason):
    with pytest.raises(UnsupportedSpaceError, match=reason):
        dqn(specs.single_agent(box(4), action))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"batch_size": 0}, "batch_size: 0 must be at least 1"),
        ({"replay_ratio": 0.0}, "replay_ratio: 0.0 must be above 0"),
        ({"n_step": 32}, r"n_step: 32 exceeds segment_length \(16\); raise segment_length"),
        ({"buffer_size": 500}, r"learning_starts: 1000 exceeds buffer_size \(500\)"),
        ({"final_epsilon": 1.5}, r"final_epsilon: 1.5 must be in \[0, 1\]"),
        ({"target_tau": 0.0}, r"target_tau: 0.0 must be in \(0, 1\]"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm: 0.0 must be above 0"),
        ({"hidden_sizes": (64, 0)}, "must be at least 1 each"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, reason):
    with pytest.raises(InvalidFieldError, match=reason):
        DQNConfig(**config)


def test_defaults_stand_with_their_explanations():
    for field in dataclasses.fields(DQNConfig):
        assert field.default is not dataclasses.MISSING, field.name


def test_means_are_over_everything_added_since():
    means = DeviceMeans(("a", "b"), CPU)
    assert means.take() == {}
    for i in range(200):
        means.add(torch.tensor(float(i)), torch.tensor([i, i + 2.0]))
    assert means.take() == {"a": pytest.approx(99.5), "b": pytest.approx(100.5)}
    means.add(torch.tensor(7.0, requires_grad=True), torch.tensor([1.0, 2.0]))
    assert means.take() == {"a": 7.0, "b": 1.5}


def run(algorithm: DQN, model: bytes, count: int, epsilon: float, *, seed: int = 0):
    """What ONNX Runtime answers to random inputs, and the inputs."""
    batch = transitions_of(algorithm, rows=count, seed=seed)
    feeds = {}
    for tensor in algorithm.behaviour.inputs:
        if tensor.role == Role.NOISE:
            generator = np.random.default_rng(seed)
            feeds[tensor.name] = draw(generator, Noise.OPEN_UNIFORM, (count, *tensor.shape))
        elif tensor.role == Role.SCALAR:
            feeds[tensor.name] = np.full(count, epsilon, np.float32)
        else:
            feeds[tensor.name] = batch.columns[ColumnKey(tensor.role, "", tensor.key)]
    found = sessions.run(sessions.session_of(model), ["action", "greedy_action"], feeds)
    return found, feeds


@pytest.mark.parametrize("name", ["start", "masked", "bools", "dict"])
def test_the_published_policy_does_what_torch_does(name, graph_cache):
    algorithm = dqn(SPECS[name], dueling=name == "dict")
    publisher = Publisher(algorithm.behaviour, cache=graph_cache)
    algorithm.update(transitions_of(algorithm), 0.0)
    found, feeds = run(algorithm, publisher.publish(1).model, 256, 0.5)
    with torch.no_grad():
        action, greedy = algorithm.behaviour(*map(torch.from_numpy, feeds.values()))
    np.testing.assert_array_equal(found["action"], action.numpy())
    np.testing.assert_array_equal(found["greedy_action"], greedy.numpy())
    space = algorithm.spec.agent.action
    assert ((found["action"] >= space.start) & (found["action"] < space.start + space.n)).all()
    if name == "masked":
        assert feeds["action_mask"][np.arange(256), found["action"]].all()
        assert feeds["action_mask"][np.arange(256), found["greedy_action"]].all()


def test_the_published_policy_explores_as_often_as_epsilon_says(graph_cache):
    algorithm = dqn(SPECS["masked"])
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    count, epsilon = 50_000, 0.3
    found, feeds = run(algorithm, model, count, epsilon)
    # Exploring gives the greedy action too, as one of those available.
    available = feeds["action_mask"].sum(1)
    expected = (epsilon * (1 - 1 / available)).mean()
    departures = (found["action"] != found["greedy_action"]).mean()
    assert departures == pytest.approx(expected, abs=5 * np.sqrt(expected / count))
    never, _ = run(algorithm, model, 1000, 0.0)
    np.testing.assert_array_equal(never["action"], never["greedy_action"])
