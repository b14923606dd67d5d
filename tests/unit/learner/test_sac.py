"""Soft actor-critic's update on transitions made by hand, and its policies in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learner_support import ACTION, OBSERVATION, box, image, parameters
from transitions_support import (
    CHOICES,
    MASK,
    MASKED,
    OFFSET,
    answers,
    feeds_of,
    make_linear,
    onnx_answers,
    sac,
    transitions_of,
)

from common import spaces, specs
from common.errors import InvalidFieldError, UnsupportedSpaceError
from learner.algorithms.sac import SAC, SACConfig
from learner.networks.heads import differentiable
from learner.publishing.publisher import Publisher

UNITS = specs.single_agent(box(2), box(1, low=-1.0, high=1.0))
SPECS = {
    "continuous": OFFSET,
    "pixels": specs.single_agent(image(10, 10, 3), box(2, low=-1.0, high=1.0)),
    "double": specs.single_agent(box(4), box(2, 2, low=0.0, high=1.0, dtype=np.float64)),
    "choices": CHOICES,
    "masked": MASKED,
    "choices_of_pixels": specs.single_agent(image(10, 10, 3), spaces.Discrete(4)),
}


def given_noise(algorithm: SAC, values) -> None:
    """Makes the coming update's draws [2, M, d] these."""
    algorithm.normal = lambda *shape: torch.tensor(np.array(values), dtype=torch.float32).view(
        shape
    )


def linear() -> SAC:
    """Linear networks from two numbers and an action of one; alpha is 0.5.

    The Gaussian's mean is s_0 and its log deviation s_1; Q_1 = s_0 + 2 a, Q_2 = s_1 - a, and of the
    targets Q_1 = 4 s_0 + a, Q_2 = 3 s_1 + 2 a.
    """
    algorithm = sac(
        UNITS, hidden_sizes=(), initial_entropy_coefficient=0.5, prioritised=True, target_tau=1e-9
    )
    make_linear(algorithm.behaviour.actor, [[1.0, 0.0], [0.0, 1.0]])
    make_linear(algorithm._critic_network, [[1.0, 0.0, 2.0]], [[0.0, 1.0, -1.0]])
    make_linear(algorithm._target_critics.network, [[4.0, 0.0, 1.0]], [[0.0, 3.0, 2.0]])
    return algorithm


STATES = np.array([[0.5, -1.0], [1.0, 0.0], [0.0, 0.2]])
NEXT = np.array([[1.0, 0.2], [5.0, 0.5], [-1.0, 0.4]])
TAKEN = np.array([0.5, -0.5, 1.0])
WEIGHTS = np.array([1.0, 0.5, 0.25])


def hand_made(algorithm: SAC):
    """One transition goes on, one terminated, one was cut off after two steps."""
    batch = transitions_of(
        algorithm,
        rows=3,
        returns=np.array([1.0, 2.0, 3.0], np.float32),
        discounts=np.array([0.9, 0.0, 0.81], np.float32),
        weights=WEIGHTS.astype(np.float32),
    )
    batch.columns[OBSERVATION] = STATES.astype(np.float32)
    batch.columns[ACTION] = TAKEN[:, None].astype(np.float32)
    batch.next_columns[OBSERVATION] = NEXT.astype(np.float32)
    return batch


def drawn_by_hand(states, noise):
    """Actions and log-probabilities from the definition: log N(u) - log(1 - tanh(u)^2)."""
    u = states[:, 0] + np.exp(states[:, 1]) * noise
    density = -0.5 * noise**2 - states[:, 1] - 0.5 * np.log(2 * np.pi)
    return np.tanh(u), density - np.log(1 - np.tanh(u) ** 2)


def test_errors_are_those_of_soft_targets_by_hand():
    algorithm = linear()
    noise = np.array([0.3, -0.2, -1.1])
    given_noise(algorithm, [noise, np.zeros(3)])
    errors = algorithm.update(hand_made(algorithm), 0.0)
    actions, log_probs = drawn_by_hand(NEXT, noise)
    least = np.minimum(4 * NEXT[:, 0] + actions, 3 * NEXT[:, 1] + 2 * actions)
    targets = np.array([1.0, 2.0, 3.0]) + np.array([0.9, 0.0, 0.81]) * (least - 0.5 * log_probs)
    values = np.stack([STATES[:, 0] + 2 * TAKEN, STATES[:, 1] - TAKEN], 1)
    expected = np.abs(values - targets[:, None])
    np.testing.assert_allclose(errors.numpy(), expected.mean(1), rtol=1e-5)
    assert not errors.requires_grad
    losses = expected**2 / 2 * WEIGHTS[:, None]
    found = algorithm.metrics()
    assert found["train/critic_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert found["train/ent_coef"] == pytest.approx(0.5)


def test_the_actor_goes_down_alpha_log_pi_minus_the_smaller_value():
    algorithm = linear()
    noise = torch.tensor([[0.3], [-0.2], [-1.1]])
    data = algorithm.minibatch(hand_made(algorithm))
    policy = algorithm.behaviour
    found = policy.improve(algorithm._actor, algorithm._critics, data, noise, algorithm._alpha)
    (layer,) = policy.actor.heads[0]
    # The same loss, from the distribution that torch has.
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    states = torch.from_numpy(STATES).float()
    mean, log_std = (states @ weight.T).chunk(2, 1)
    before = mean + log_std.exp() * noise
    density = torch.distributions.Normal(mean, log_std.exp()).log_prob(before)
    action = torch.tanh(before)
    log_prob = (density - torch.log(1 - action**2)).squeeze(1)
    values = torch.stack([states[:, 0] + 2 * action[:, 0], states[:, 1] - action[:, 0]], 1)
    losses = 0.5 * log_prob - values.amin(1)
    (expected,) = torch.autograd.grad(losses.mean(), weight)
    torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.loss, losses.detach())
    torch.testing.assert_close(found.entropy, -log_prob.detach())
    torch.testing.assert_close(found.surplus, 1.0 - log_prob.detach())


@pytest.mark.parametrize(
    ("spec", "config", "expected"),
    [
        (OFFSET, {}, -2.0),
        (OFFSET, {"target_entropy": -0.7}, -0.7),
        (CHOICES, {}, 0.89 * np.log(3)),
        (CHOICES, {"target_entropy": 0.2}, 0.2),
    ],
)
def test_the_entropy_is_held_against_its_target(spec, config, expected):
    algorithm = sac(spec, **config)
    data = algorithm.minibatch(transitions_of(algorithm))
    found = algorithm.behaviour.improve(
        algorithm._actor, algorithm._critics, data, algorithm.normal(8, 2), algorithm._alpha
    )
    torch.testing.assert_close(found.entropy - found.surplus, torch.full((8,), float(expected)))


def test_the_target_of_masked_entropy_is_over_what_is_available():
    algorithm = sac(MASKED)
    batch = transitions_of(algorithm)
    batch.columns[MASK][:] = np.array([[True, True, True], [True, False, True]] * 4)
    batch.columns[MASK][0] = [False, True, False]
    data = algorithm.minibatch(batch)
    none = algorithm.normal(8, 0)
    found = algorithm.behaviour.improve(
        algorithm._actor, algorithm._critics, data, none, algorithm._alpha
    )
    target = (found.entropy - found.surplus).numpy()
    expected = 0.89 * np.log([1] + [2, 3] * 3 + [2])
    np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-6)
    assert found.entropy[0] == 0.0
    # The first policy is all but uniform.
    np.testing.assert_allclose(found.entropy[1:], expected[1:] / 0.89, rtol=1e-2)


def test_alpha_falls_where_there_is_more_entropy_than_asked_for():
    for target, direction in ((-9.0, -1), (9.0, 1)):
        algorithm = sac(target_entropy=target, entropy_learning_rate=0.01)
        algorithm.update(transitions_of(algorithm), 0.0)
        # The first step of Adam is the learning rate, whatever the gradient.
        assert algorithm._alpha.item() == pytest.approx(np.exp(direction * 0.01), rel=1e-4)
        assert algorithm.metrics()["train/ent_coef"] == 1.0


def test_a_fixed_alpha_stays_and_may_be_zero():
    for alpha in (0.0, 0.2):
        algorithm = sac(entropy_coefficient=alpha)
        before = algorithm.tensors()["log_alpha"].clone()
        for _ in range(2):
            algorithm.update(transitions_of(algorithm), 0.0)
        assert algorithm.metrics()["train/ent_coef"] == pytest.approx(alpha)
        assert torch.equal(algorithm.tensors()["log_alpha"], before)


def test_discrete_expectations_are_sums_over_all_actions():
    algorithm = sac(CHOICES, hidden_sizes=(), initial_entropy_coefficient=0.5, prioritised=True)
    logits = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.0]])
    online = [[[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], np.full((3, 3), 0.5).tolist()]
    target = [[[1.0, 4.0, 0.0], [2.0, 5.0, 1.0], [3.0, 6.0, 2.0]], np.full((3, 3), 2.5).tolist()]
    make_linear(algorithm.behaviour.actor, logits.T.tolist())
    make_linear(algorithm._critic_network, *online)
    make_linear(algorithm._target_critics.network, *target)
    eye = np.eye(3, dtype=np.float32)
    batch = transitions_of(
        algorithm,
        rows=3,
        returns=np.array([1.0, 2.0, 3.0], np.float32),
        discounts=np.array([0.9, 0.0, 0.81], np.float32),
    )
    batch.columns[OBSERVATION], batch.next_columns[OBSERVATION] = eye, eye[[1, 2, 0]]
    batch.columns[ACTION] = np.array([-1, 0, 1])

    def policy(state):
        weights = np.exp(logits[state])
        return weights / weights.sum()

    def worth(state):
        least = np.minimum(np.array(target[0])[:, state], 2.5)
        return (policy(state) * (least - 0.5 * np.log(policy(state)))).sum()

    errors = algorithm.update(batch, 0.0)
    targets = np.array([1 + 0.9 * worth(1), 2.0, 3 + 0.81 * worth(0)])
    # Numbers -1, 0 and 1 are the first, the second and the third action.
    values = np.array([[1.0, 0.5], [1.0, 0.5], [3.0, 0.5]])
    expected = np.abs(values - targets[:, None]).mean(1)
    np.testing.assert_allclose(errors.numpy(), expected, rtol=1e-5)
    entropy = [-(policy(s) * np.log(policy(s))).sum() for s in range(3)]
    assert algorithm.metrics()["train/entropy"] == pytest.approx(np.mean(entropy), rel=1e-5)


def test_the_gradient_of_discrete_expectations_is_that_of_autograd():
    algorithm = sac(MASKED, hidden_sizes=())
    batch = transitions_of(algorithm)
    data = algorithm.minibatch(batch)
    policy, alpha = algorithm.behaviour, torch.tensor(0.3)
    with torch.no_grad():
        policy.actor.heads[0][0].weight.normal_()
        least = algorithm._critic_network(data.parts).view(8, 2, 3).amin(1)
    found = policy.improve(algorithm._actor, algorithm._critics, data, data.returns, alpha)
    weight = policy.actor.heads[0][0].weight
    logits = torch.where(data.mask, data.parts[0] @ weight.T, -torch.inf)
    probabilities = torch.softmax(logits, 1)
    log_probs = torch.log(probabilities.clamp_min(1e-30))
    losses = (probabilities * (alpha * log_probs - least)).sum(1)
    (expected,) = torch.autograd.grad(losses.mean(), weight)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.loss, losses.detach())


def test_what_will_not_be_available_is_worth_nothing():
    algorithm = sac(MASKED)
    batch = transitions_of(algorithm)
    batch.next_columns[MASK][:] = [False, True, False]
    data = algorithm.minibatch(batch)
    found = algorithm.behaviour.next_values(
        algorithm._actor, algorithm._target, data, data.returns, torch.tensor(0.3)
    )
    with torch.no_grad():
        values = algorithm._target_critics.network(data.next_parts).view(8, 2, 3)
    torch.testing.assert_close(found, values.amin(1)[:, 1])


@pytest.mark.parametrize("name", SPECS)
def test_every_space_trains_and_says_how_it_went(name):
    algorithm = sac(SPECS[name])
    before = parameters(algorithm)
    for seed in range(3):
        algorithm.update(transitions_of(algorithm, seed=seed), 0.5)
    metrics = algorithm.metrics()
    assert metrics.keys() == {
        "train/critic_loss",
        "train/q_value",
        "train/critic_gradient_norm",
        "train/actor_loss",
        "train/actor_gradient_norm",
        "train/entropy",
        "train/ent_coef",
        "train/learning_rate",
        "train/n_updates",
    }
    assert metrics["train/n_updates"] == 3.0
    assert all(np.isfinite(number) for number in metrics.values()), metrics
    after = algorithm.tensors()
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert algorithm.metrics() == {}


def test_targets_go_a_share_of_the_way_every_so_many_steps():
    algorithm = sac(target_tau=0.25, target_update_interval=2)
    name = "heads.1.0.weight"
    before = parameters(algorithm)[f"target_critics.{name}"]
    batch = transitions_of(algorithm)
    algorithm.update(batch, 0.0)
    assert torch.equal(algorithm.tensors()[f"target_critics.{name}"], before)
    algorithm.update(batch, 0.0)
    after = algorithm.tensors()
    expected = before + 0.25 * (after[f"critics.{name}"] - before)
    torch.testing.assert_close(after[f"target_critics.{name}"], expected)


@pytest.mark.parametrize("name", ["continuous", "double", "choices", "masked"])
def test_the_published_policy_does_what_torch_does(name, graph_cache):
    algorithm = sac(SPECS[name])
    publisher = Publisher(algorithm.behaviour, cache=graph_cache)
    algorithm.update(transitions_of(algorithm), 0.0)
    feeds = feeds_of(algorithm, 256, random_share=0.5)
    found = onnx_answers(algorithm, publisher.publish(1).model, feeds)
    expected = answers(algorithm, feeds)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_allclose(found[key], array, rtol=1e-5, atol=1e-5, err_msg=key)
    space = algorithm.spec.agent.action
    for key in ("action", "greedy_action"):
        if isinstance(space, spaces.Box):
            assert ((found[key] >= space.low) & (found[key] <= space.high)).all()
        elif name == "masked":
            assert feeds["action_mask"][np.arange(256), found[key]].all()
        else:
            assert set(found[key]) <= {-1, 0, 1}


def test_the_published_policy_draws_from_its_gaussian_or_uniformly(graph_cache):
    algorithm = sac(UNITS, hidden_sizes=())
    make_linear(algorithm.behaviour.actor, [[0.5, 0.0], [0.0, 0.0]])
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    count = 20_000

    def rolled(share):
        feeds = feeds_of(algorithm, count, random_share=share)
        feeds["observation"] = np.ones((count, 2), np.float32)
        return onnx_answers(algorithm, model, feeds)

    found = rolled(0.0)
    np.testing.assert_allclose(found["greedy_action"], np.tanh(0.5), rtol=1e-5)
    before = np.arctanh(np.clip(found["action"].astype(np.float64), -1 + 1e-7, 1 - 1e-7))
    assert before.mean() == pytest.approx(0.5, abs=5 / np.sqrt(count))
    assert before.std() == pytest.approx(1.0, rel=0.03)
    frequencies, _ = np.histogram(rolled(1.0)["action"], 10, (-1.0, 1.0))
    assert (np.abs(frequencies - count / 10) < 5 * np.sqrt(count * 0.09)).all()


def test_discrete_actions_come_as_often_as_the_softmax_says(graph_cache):
    algorithm = sac(CHOICES, hidden_sizes=())
    make_linear(algorithm.behaviour.actor, [[1.0, 0, 0], [0, 0, 0], [-1.0, 0, 0]])
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    count = 20_000
    for share in (0.0, 1.0):
        feeds = feeds_of(algorithm, count, random_share=share)
        feeds["observation"] = np.ones((count, 3), np.float32)
        found = onnx_answers(algorithm, model, feeds)
        weights = np.exp((1.0 - share) * np.array([1.0, 0.0, -1.0]))
        expected = weights / weights.sum()
        frequencies = np.bincount(found["action"] + 1, minlength=3) / count
        allowed = 5 * np.sqrt(expected * (1 - expected) / count)
        assert (np.abs(frequencies - expected) < allowed).all(), (share, frequencies)
        assert (found["greedy_action"] == -1).all()


def test_a_uniform_share_of_masked_actions_is_of_those_available():
    algorithm = sac(MASKED)
    feeds = feeds_of(algorithm, 5000, random_share=1.0)
    feeds["action_mask"][:] = [True, False, True]
    found = np.bincount(answers(algorithm, feeds)["action"], minlength=3) / 5000
    assert found[1] == 0.0
    assert found[0] == pytest.approx(0.5, abs=5 * np.sqrt(0.25 / 5000))


def test_the_networks_in_training_are_differentiated_where_they_lie():
    algorithm = sac()
    algorithm.update(transitions_of(algorithm), 0.0)
    inputs = [torch.randn(4, 3), torch.rand(4, 2)]
    expected = algorithm._critic_network(inputs)
    torch.testing.assert_close(algorithm._critics(inputs), expected.detach())
    fresh = differentiable(algorithm._target_critics.network)
    assert torch.equal(fresh(inputs), algorithm._target(inputs))


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (box(1), "sac takes actions of a bounded Box, these are a Box without bounds; take ppo"),
        (spaces.MultiDiscrete((2, 3)), "a MultiDiscrete; take ppo"),
        (spaces.Dict({"a": spaces.Discrete(2)}), "a Dict; flatten"),
    ],
)
def test_other_actions_are_refused_with_what_could_be_done(action, reason):
    with pytest.raises(UnsupportedSpaceError, match=reason):
        sac(specs.single_agent(box(4), action))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"entropy_coefficient": -0.1}, "entropy_coefficient: -0.1 must not be negative"),
        ({"initial_entropy_coefficient": 0.0}, "initial_entropy_coefficient: 0.0 must be above 0"),
        ({"entropy_learning_rate": 0.0}, "entropy_learning_rate: 0.0 must be above 0"),
        ({"target_update_interval": 0}, "target_update_interval: 0 is below 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, reason):
    with pytest.raises(InvalidFieldError, match=reason):
        SACConfig(**config)
