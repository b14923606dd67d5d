"""TRPO's update on rounds made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from learner_support import (
    ACTION,
    CPU,
    LOG_PROB,
    OBSERVATION,
    RAW_ACTION,
    REWARD,
    SPECS,
    TERMINATED,
    TRUNCATED,
    VALID,
    assert_same,
    constant_critic,
    continuous_spec,
    discrete_spec,
    draw,
    parameters,
    roll,
    round_of,
    trpo,
)
from torch import nn

from common import spaces
from common.errors import InvalidFieldError
from common.signature import ColumnKey, Role
from learner.algorithms import natural_gradient
from learner.algorithms.rollout import rollout_of
from learner.algorithms.trpo import TRPOConfig
from learner.publishing.publisher import Publisher


def policy_of(algorithm) -> dict[str, torch.Tensor]:
    """A copy of what the policy has learned: without the statistics of observations."""
    return {name: one.detach().clone() for name, one in algorithm.behaviour.named_parameters()}


def described(algorithm, data) -> torch.Tensor:
    """The distributions of the valid rows."""
    behaviour = algorithm.behaviour
    with torch.no_grad():
        parts = behaviour.preprocess(data.leaves)
        head = behaviour.head(behaviour.encoder(parts))[: data.rows]
        rows = behaviour.distribution.describe(head, data.masks)
    return rows[data.valid_rows].double()


def rolled(algorithm, *, seed: int = 0):
    """A round whose actions and records the policy itself gave, with a row that is no step."""
    batch = round_of(algorithm, seed=seed)
    generator, behaviour = np.random.default_rng(seed), algorithm.behaviour
    for row in range(algorithm.n_steps):
        feeds = [
            draw(generator, one.noise, (algorithm.n_envs, *one.shape))
            if one.role == Role.NOISE
            else batch.columns[ColumnKey(one.role, "", one.key)][row]
            for one in behaviour.inputs
        ]
        with torch.no_grad():
            found = behaviour(*(torch.from_numpy(feed) for feed in feeds))
        for output, tensor in zip(behaviour.outputs, found, strict=True):
            key = ColumnKey(output.role, "", output.key)
            if key in batch.columns:
                batch.columns[key][row] = tensor.numpy()
    batch.columns[TRUNCATED][2, 1] = True
    batch.columns[VALID][3, 1] = False
    return batch


@pytest.mark.parametrize("name", SPECS)
def test_a_step_improves_the_objective_within_the_trust_region(name):
    algorithm = trpo(SPECS[name], normalise_observations=False)
    batch = rolled(algorithm)
    data = rollout_of(batch, algorithm.signature, algorithm.behaviour.distribution, device=CPU)
    before, state = described(algorithm, data), parameters(algorithm)
    metrics = algorithm.update(batch, 0.5)

    divergence = algorithm.behaviour.distribution.divergence(before, described(algorithm, data))
    assert 0.001 < divergence.mean() < 0.01
    assert metrics["train/kl_divergence_loss"] == pytest.approx(divergence.mean().item(), rel=1e-3)
    assert metrics["train/is_line_search_success"] == 1.0
    # Normalised advantages have mean 0, and the ratio was 1.
    assert metrics["train/policy_objective"] > 0.01
    assert metrics["train/fresh_ratio_error"] < 1e-5
    assert metrics["train/n_updates"] == 1.0
    assert all(np.isfinite(number) for number in metrics.values()), metrics
    assert ("train/std" in metrics) == isinstance(SPECS[name].agent.action, spaces.Box)
    after = algorithm.tensors()
    unchanged = {key for key, tensor in state.items() if torch.equal(tensor, after[key])}
    assert unchanged == set()


def test_metrics_have_the_usual_names():
    algorithm = trpo(continuous_spec())
    assert algorithm.update(round_of(algorithm), 0.0).keys() == {
        "train/entropy_loss",
        "train/explained_variance",
        "train/fresh_ratio_error",
        "train/gradient_norm",
        "train/is_line_search_success",
        "train/kl_divergence_loss",
        "train/learning_rate",
        "train/max_kl",
        "train/n_updates",
        "train/policy_objective",
        "train/std",
        "train/step_fraction",
        "train/value_loss",
    }


def one_state(algorithm):
    """A round of the observation 0, where every step ends an episode and all values are 0."""
    constant_critic(algorithm, 0.0)
    batch = round_of(algorithm)
    batch.columns[OBSERVATION][:] = 0.0
    batch.columns[TERMINATED][:] = True
    batch.columns[REWARD][:] = np.arange(32).reshape(8, 4) % 2
    return batch


def test_the_natural_gradient_of_two_fair_actions_by_hand():
    # Logits b = (0, 0); half of the actions are the one that pays 1. So the slope in b is
    # (-1/4, 1/4), the Fisher matrix [[1/4, -1/4], [-1/4, 1/4]], whose eigenvalue along the slope is
    # 1/2. Hence x = slope / (1/2 + damping), and the step sqrt(max_kl / (1/2 + damping)) (-1, 1).
    algorithm = trpo(
        discrete_spec(), hidden_sizes=(), normalise_advantages=False, damping=0.1, max_kl=0.01
    )
    batch = one_state(algorithm)
    batch.columns[ACTION][:] = batch.columns[REWARD]
    batch.columns[LOG_PROB][:] = math.log(0.5)
    weight = algorithm.behaviour.head[0].weight.detach().clone()
    metrics = algorithm.update(batch, 0.0)

    way = math.sqrt(0.01 / 0.6)
    torch.testing.assert_close(algorithm.behaviour.head[0].bias.data, torch.tensor([-way, way]))
    assert torch.equal(algorithm.behaviour.head[0].weight, weight)
    assert metrics["train/step_fraction"] == 1.0
    assert metrics["train/gradient_norm"] == pytest.approx(math.sqrt(0.125))
    # KL((1/2, 1/2) || (p, 1 - p)) = log cosh of half the logits' difference.
    divergence = pytest.approx(math.log(math.cosh(way)), rel=1e-3)
    assert metrics["train/kl_divergence_loss"] == divergence
    assert metrics["train/policy_objective"] == pytest.approx(1.0 / (1.0 + math.exp(-2 * way)))


def test_the_natural_gradient_of_a_normal_by_hand():
    # Actions +-2 of a standard normal, of which 2 pays 1. The slope in (mean, log std) is
    # (mean of A a, mean of A (a^2 - 1)) = (1, 3/2), the Fisher matrix diag(1, 2).
    algorithm = trpo(
        continuous_spec(),
        hidden_sizes=(),
        normalise_advantages=False,
        normalise_observations=False,
        scale_rewards=False,
        damping=0.1,
        max_kl=0.01,
    )
    batch = one_state(algorithm)
    batch.columns[RAW_ACTION][..., 0] = 4.0 * batch.columns[REWARD] - 2.0
    batch.columns[LOG_PROB][:] = -0.5 * math.log(2.0 * math.pi) - 2.0
    algorithm.update(batch, 0.0)

    mean, log_std = 1.0 / 1.1, 1.5 / 2.1
    length = math.sqrt(2.0 * 0.01 / (mean * 1.0 + log_std * 1.5))
    behaviour = algorithm.behaviour
    assert behaviour.head[0].bias.item() == pytest.approx(length * mean)
    assert behaviour.distribution.log_std.item() == pytest.approx(length * log_std)


@pytest.mark.parametrize("name", ["discrete", "continuous", "image"])
@pytest.mark.parametrize("spoilt", [-1.0, math.nan, 1e30], ids=["downhill", "nan", "far"])
def test_a_policy_that_finds_no_step_stays_bit_for_bit(name, spoilt, monkeypatch):
    algorithm = trpo(SPECS[name])
    batch, before = rolled(algorithm), policy_of(algorithm)
    critic = [one.detach().clone() for one in algorithm._critic.parameters()]
    steps = natural_gradient.trust_region_step
    monkeypatch.setattr(
        natural_gradient,
        "trust_region_step",
        lambda *given, **named: spoilt * steps(*given, **named),
    )
    metrics = algorithm.update(batch, 0.0)
    assert_same(policy_of(algorithm), before)
    assert metrics["train/is_line_search_success"] == 0.0
    assert metrics["train/step_fraction"] == 0.0
    assert metrics["train/kl_divergence_loss"] == 0.0
    assert np.isfinite(metrics["train/policy_objective"])
    pairs = zip(critic, algorithm._critic.parameters(), strict=True)
    assert not any(torch.equal(one, other) for one, other in pairs)


def test_a_step_that_is_too_far_is_shortened(monkeypatch):
    algorithm = trpo(discrete_spec())
    batch = rolled(algorithm)
    steps = natural_gradient.trust_region_step
    monkeypatch.setattr(
        natural_gradient, "trust_region_step", lambda *given, **named: 3.0 * steps(*given, **named)
    )
    metrics = algorithm.update(batch, 0.0)
    assert 0.8**10 < metrics["train/step_fraction"] <= 0.8**4
    assert 0.0 < metrics["train/kl_divergence_loss"] < 0.01


def test_nothing_to_gain_leaves_the_policy():
    algorithm = trpo(discrete_spec())
    constant_critic(algorithm, 0.0)
    batch, before = round_of(algorithm), policy_of(algorithm)
    batch.columns[REWARD][:] = 0.0
    metrics = algorithm.update(batch, 0.0)
    assert_same(policy_of(algorithm), before)
    assert metrics["train/gradient_norm"] == 0.0
    assert metrics["train/is_line_search_success"] == 0.0


def test_the_bound_goes_to_zero_or_stays():
    for schedule, expected in (("linear", 0.0025), ("constant", 0.01)):
        algorithm = trpo(discrete_spec(), max_kl_schedule=schedule)
        metrics = algorithm.update(rolled(algorithm), 0.75)
        assert metrics["train/max_kl"] == pytest.approx(expected)
        assert 0.1 * expected < metrics["train/kl_divergence_loss"] < expected


def test_the_scale_of_rewards_changes_no_step():
    states = []
    for scale in (1.0, 64.0):
        algorithm = trpo(discrete_spec(), normalise_advantages=False)
        constant_critic(algorithm, 0.0)
        batch = round_of(algorithm)
        batch.columns[LOG_PROB][:] = math.log(0.5)
        batch.columns[REWARD][:] *= scale
        algorithm.update(batch, 0.0)
        states.append(policy_of(algorithm))
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, msg=name)


def test_the_ratio_is_one_on_fresh_data():
    algorithm = trpo(SPECS["continuous"])
    publisher = Publisher(algorithm.behaviour, cache=None)
    for version in (1, 2, 3):
        batch = roll(algorithm, publisher.publish(version).model, seed=version)
        assert algorithm.update(batch, 0.0)["train/fresh_ratio_error"] < 1e-5


def test_a_single_valid_row_is_survived():
    algorithm = trpo(continuous_spec())
    batch = round_of(algorithm)
    batch.columns[VALID][1:] = False
    batch.columns[VALID][0, 1:] = False
    metrics = algorithm.update(batch, 0.0)
    assert np.isfinite(metrics["train/value_loss"])
    assert all(torch.isfinite(tensor).all() for tensor in algorithm.tensors().values())


def test_the_critic_takes_as_many_steps_as_asked_for():
    algorithm = trpo(discrete_spec(), critic_epochs=3, n_minibatches=4)
    algorithm.update(round_of(algorithm), 0.0)
    assert algorithm.tensors()["optimiser.step"].item() == 12.0


def test_the_critic_has_an_encoder_of_its_own():
    algorithm = trpo(SPECS["image"])
    own = {one.data_ptr() for one in algorithm._critic.parameters()}
    assert [name for name in algorithm.tensors() if name.startswith("critic.encoder")]
    assert not own & {one.data_ptr() for one in algorithm.behaviour.parameters()}


@pytest.mark.parametrize(
    ("field", "setting", "text"),
    [
        ("n_minibatches", 3, "3 does not divide the 1024 rows"),
        ("max_kl", 0.0, "above 0"),
        ("damping", -0.1, "negative"),
        ("conjugate_gradient_steps", 0, "at least 1"),
        ("line_search_steps", 0, "at least 1"),
        ("line_search_shrinkage", 1.0, r"in \(0, 1\)"),
        ("critic_epochs", 0, "at least 1"),
        ("critic_learning_rate", float("nan"), "above 0"),
        ("gamma", 1.5, r"in \(0, 1\]"),
    ],
)
def test_settings_that_cannot_work_are_refused(field, setting, text):
    with pytest.raises(InvalidFieldError, match=text) as caught:
        TRPOConfig(**{field: setting})
    assert caught.value.field == field


def test_frozen_parameters_stay_where_they_are(own_module):
    def factory(space):
        del space
        network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        network[0].requires_grad_(False)
        return network

    own_module.factory = factory
    algorithm = trpo(discrete_spec(), network="own_module:factory")
    before = policy_of(algorithm)
    algorithm.update(rolled(algorithm), 0.0)
    after = policy_of(algorithm)
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert same == {"encoder.network.0.weight", "encoder.network.0.bias"}
