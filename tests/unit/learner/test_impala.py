"""IMPALA's and APPO's updates on batches made by hand, of the newest policy and of older ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from learner_support import (
    ACTION,
    LOG_PROB,
    REWARD,
    SPECS,
    TERMINATED,
    TRUNCATED,
    VALID,
    appo,
    assert_same,
    constant_critic,
    continuous_spec,
    discrete_spec,
    impala,
    parameters,
    ppo,
    roll,
    round_of,
)

from common.errors import InvalidFieldError
from learner.algorithms.impala import APPOConfig, IMPALAConfig
from learner.algorithms.rollout import rollout_of
from learner.experience.on_policy import FragmentKey
from learner.publishing.publisher import Publisher

BOTH = pytest.mark.parametrize("make", [impala, appo])


@pytest.fixture
def published(graph_cache):
    """Makes the graph that samplers get."""
    return lambda algorithm: Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model


@BOTH
@pytest.mark.parametrize("name", SPECS)
def test_every_space_trains_and_says_how_it_went(make, name):
    algorithm = make(SPECS[name])
    before = parameters(algorithm)
    metrics = algorithm.update(round_of(algorithm), 0.5)
    assert metrics["train/learning_rate"] == pytest.approx(0.5 * algorithm.config.learning_rate)
    assert all(np.isfinite(number) for number in metrics.values()), metrics
    after = algorithm.tensors()
    unchanged = {key for key, tensor in before.items() if torch.equal(tensor, after[key])}
    assert unchanged <= {"behaviour.encoder.images.0.dense.0.bias", "rewards.running"}


@BOTH
def test_a_memory_is_trained_from_the_states_that_were_recorded(make):
    algorithm = make(discrete_spec(), recurrent_units=8)
    before = parameters(algorithm)
    metrics = algorithm.update(round_of(algorithm), 0.0)
    assert all(np.isfinite(number) for number in metrics.values()), metrics
    changed = [key for key, value in algorithm.tensors().items() if not value.equal(before[key])]
    assert any("memory" in key for key in changed)


@pytest.mark.parametrize("name", ["discrete", "continuous", "masked"])
def test_at_a_fresh_version_every_ratio_is_one(name, published):
    algorithm = impala(SPECS[name])
    fresh = roll(algorithm, published(algorithm))
    assert algorithm.update(fresh, 0.0)["train/mean_rho"] == pytest.approx(1.0, abs=1e-5)
    other = appo(SPECS[name])
    fresh = roll(other, published(other))
    assert other.update(fresh, 0.0)["train/ratio_error"] < 1e-5


def test_what_older_policies_did_weighs_less(published):
    algorithm = impala(discrete_spec())
    batch = roll(algorithm, published(algorithm))
    # Half of the actions were twice as likely when they were taken.
    batch.columns[LOG_PROB][:, :2] += np.log(2.0)
    assert algorithm.update(batch, 0.0)["train/mean_rho"] == pytest.approx(0.75, abs=1e-5)


@pytest.mark.parametrize("name", ["discrete", "continuous"])
def test_on_fresh_experience_appo_is_ppo(name, published):
    settings = {"scale_rewards": False, "gae_lambda": 0.9, "recompute_advantages": False}
    one, other = appo(SPECS[name], **settings), ppo(SPECS[name], **settings)
    assert_same(parameters(one), parameters(other))
    batch = roll(one, published(one))
    batch.columns[TERMINATED][3, 1] = batch.columns[TRUNCATED][5, 2] = True
    batch.columns[VALID][6, 2] = False
    found, expected = one.update(batch, 0.3), other.update(batch, 0.3)
    assert found.pop("train/ratio_error") == expected.pop("train/fresh_ratio_error")
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for key, tensor in other.tensors().items():
        torch.testing.assert_close(one.tensors()[key], tensor, rtol=1e-3, atol=1e-5)


def test_appo_clips_at_the_policy_that_acted(published):
    algorithm = appo(discrete_spec(), epochs=1, n_minibatches=1, learning_rate=1e-12)
    batch = roll(algorithm, published(algorithm))
    batch.columns[LOG_PROB][:] -= 1.0
    metrics = algorithm.update(batch, 0.0)
    assert metrics["train/clip_fraction"] == pytest.approx(1.0)
    assert metrics["train/ratio_error"] == pytest.approx(np.e - 1.0, rel=1e-3)


def test_the_loss_of_impala_by_hand(published):
    # Values 2 everywhere, gamma 1/2, one step an episode of reward 3: v = 3, A = 1, and with the
    # ratio 1/2: v = 2 + 1/2 * 1 = 2.5.
    settings = {"gamma": 0.5, "entropy_coefficient": 0.0, "value_coefficient": 0.25}
    algorithm = impala(discrete_spec(), **settings)
    constant_critic(algorithm, 2.0)
    batch = roll(algorithm, published(algorithm))
    batch.columns[REWARD][:] = 3.0
    batch.columns[TERMINATED][:] = True
    data = rollout_of(
        batch, algorithm.signature, algorithm.behaviour.distribution, device=torch.device("cpu")
    )
    mean_log_prob = data.log_probs.mean().item()
    batch.columns[LOG_PROB][:] += np.log(2.0)
    metrics = algorithm.update(batch, 0.0)
    assert metrics["train/value_loss"] == pytest.approx(0.25, rel=1e-4)
    assert metrics["train/policy_gradient_loss"] == pytest.approx(-0.5 * mean_log_prob, rel=1e-4)
    expected = -0.5 * mean_log_prob + 0.25 * 0.25
    assert metrics["train/loss"] == pytest.approx(expected, rel=1e-4)


@BOTH
def test_what_pays_becomes_more_likely(make):
    algorithm = make(discrete_spec(), n_envs=8, learning_rate=1e-2)
    behaviour = algorithm.behaviour
    for seed in range(30):
        batch = round_of(algorithm, seed=seed)
        batch.columns[REWARD][:] = batch.columns[ACTION]
        batch.columns[TERMINATED][:] = True
        # A policy that tossed a coin, however far the one that learns is from that by now.
        batch.columns[LOG_PROB][:] = np.log(0.5)
        algorithm.update(batch, 0.0)
    head = behaviour.head(behaviour.encoder(behaviour.preprocess([torch.randn(100, 4)])))
    likely = behaviour.distribution.log_prob(head, torch.ones(100, dtype=torch.int64), None).exp()
    assert likely.mean() > 0.9


@BOTH
@pytest.mark.parametrize("name", ["discrete", "continuous"])
def test_rows_that_are_no_steps_enter_nothing(make, name):
    states = []
    for junk in (0.0, 1e6):
        algorithm = make(SPECS[name])
        batch = round_of(algorithm)
        batch.columns[VALID][5:, 1] = False
        for column in batch.columns.values():
            if column.dtype == np.float32 and len(column) == 8:
                column[5:, 1] = junk
            elif column.dtype == np.float32:
                column[6:, 1] = junk
        algorithm.update(batch, 0.0)
        states.append(parameters(algorithm))
    assert_same(*states)


@BOTH
def test_rewards_are_scaled_by_what_every_slot_got_whatever_the_order(make):
    rewards = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)

    def statistics(fragments):
        algorithm = make(continuous_spec())
        batch = round_of(algorithm)
        for position, (slot, first) in enumerate(fragments):
            batch.columns[REWARD][:, position] = rewards[first : first + 8, slot]
        keys = [FragmentKey(0, slot, 0, first) for slot, first in fragments]
        algorithm.update(dataclasses.replace(batch, keys=keys), 0.0)
        return algorithm._rewards.tensors()

    in_order = statistics([(0, 0), (0, 8), (1, 0), (1, 8)])
    mixed = statistics([(1, 8), (0, 8), (1, 0), (0, 0)])
    for name, tensor in in_order.items():
        torch.testing.assert_close(mixed[name], tensor)


@pytest.mark.parametrize(
    ("config", "field", "setting", "text"),
    [
        (IMPALAConfig, "trace_lambda", 1.5, r"1.5 must be in \[0, 1\]"),
        (IMPALAConfig, "learning_rate", 0.0, "must be above 0"),
        (IMPALAConfig, "entropy_coefficient", -1.0, "must not be negative"),
        (IMPALAConfig, "rho_clip", 0.0, "must be above 0"),
        (IMPALAConfig, "c_clip", 2.0, r"2.0 exceeds rho_clip \(1.0\); lower it"),
        (IMPALAConfig, "queue_size", 3, "3 is below the 16 fragments of an update"),
        (IMPALAConfig, "max_staleness", 0, "would be stale"),
        (APPOConfig, "max_staleness", 0, "would be stale"),
        (APPOConfig, "clip_range", 0.0, "must be above 0"),
        (APPOConfig, "n_minibatches", 7, "does not divide"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, field, setting, text):
    with pytest.raises(InvalidFieldError, match=text) as caught:
        config(**{field: setting})
    assert caught.value.field == field
