"""Policies act as often as theory says: chi-square and Kolmogorov-Smirnov, with fixed seeds.

Every observation is the same one, and what the policy answers to many draws of noise is compared
with the distribution that its network describes there. That what is published answers the same is
in test_spaces.py and test_exported_policies.py.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from learner_support import CPU, box, draw
from scipy import stats

from common import spaces, specs
from common.signature import Role
from learner.algorithms import registry

DRAWS = 20_000
LEAST_P = 1e-3
"""The seeds are fixed, so that this is a bound and no lottery."""

BOX = spaces.Box(np.array([-1.0], np.float32), np.array([3.0], np.float32))
"""An action is 1 + 2 a of a number a in [-1, 1]."""


def answered(name: str, action, *, mask=None, scalars=None, spread=0.0, **config):
    """A policy's answers to many draws of noise, and what its head says.

    Args:
        name: The algorithm's.
        action: The space.
        mask: Which actions are available, or None.
        scalars: Exploration values by key.
        spread: Standard deviation of numbers that the last layer's biases are set to.
        config: Settings.
    """
    found = registry.resolve(name)
    spec = specs.single_agent(box(4), action, action_mask=mask is not None)
    policy = found(spec, found.Config(hidden_sizes=(8,), **config), device=CPU, seed=0)
    behaviour = policy.behaviour
    *_, last = (tensor for key, tensor in behaviour.named_parameters() if key.endswith("bias"))
    generator = np.random.default_rng(0)
    with torch.no_grad():
        last.copy_(torch.from_numpy(generator.normal(0.0, spread, last.shape)))
    feeds = {}
    for tensor in behaviour.inputs:
        match tensor.role:
            case Role.NOISE:
                feeds[tensor.name] = draw(generator, tensor.noise, (DRAWS, *tensor.shape))
            case Role.SCALAR:
                feeds[tensor.name] = np.full(DRAWS, (scalars or {})[tensor.key], np.float32)
            case Role.ACTION_MASK:
                feeds[tensor.name] = np.tile(np.array(mask), (DRAWS, 1))
            case _:
                feeds[tensor.name] = np.tile(np.float32([0.3, -1.0, 0.5, 2.0]), (DRAWS, 1))
    with torch.no_grad():
        outputs = behaviour(*(torch.from_numpy(array) for array in feeds.values()))
        parts = behaviour.preprocess([torch.from_numpy(feeds["observation"][:1])])
        for place in ("actor", "values"):
            if hasattr(behaviour, place):
                head = getattr(behaviour, place)(parts)
                break
        else:
            head = behaviour.head(behaviour.encoder(parts))
    names = [output.name for output in behaviour.outputs]
    answers = {name: found.numpy() for name, found in zip(names, outputs, strict=True)}
    return answers, head[0].double()


def softmax(logits, mask=None):
    """Probabilities, 0 where the mask is false."""
    if mask is not None:
        logits = torch.where(torch.tensor(mask), logits, -torch.inf)
    return torch.softmax(logits, 0).numpy()


def assert_as_often(outcomes, probabilities):
    """Chi-square over numbered outcomes; what has no probability never happens."""
    counts = np.bincount(outcomes, minlength=len(probabilities))
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    expected = probabilities[possible] * len(outcomes)
    assert expected.min() > 20
    assert stats.chisquare(counts[possible], expected).pvalue > LEAST_P


def assert_distributed(numbers, distribution):
    """Kolmogorov-Smirnov."""
    assert stats.kstest(numbers.reshape(-1), distribution.cdf).pvalue > LEAST_P


@pytest.mark.parametrize("mask", [None, [True, False, True, True]], ids=["all", "masked"])
@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_discrete_actions_follow_the_softmax(name, mask):
    scalars = {"random_share": 0.0}
    answers, logits = answered(name, spaces.Discrete(4, 2), mask=mask, scalars=scalars, spread=1.0)
    expected = softmax(logits, mask)
    assert_as_often(answers["action"] - 2, expected)
    assert (answers["greedy_action"] - 2 == expected.argmax()).all()


def test_choices_are_independent_and_follow_a_softmax_each():
    answers, logits = answered("ppo", spaces.MultiDiscrete((2, 3), (0, -1)), spread=1.0)
    first, second = softmax(logits[:2]), softmax(logits[2:])
    outcomes = answers["action"][:, 0] * 3 + (answers["action"][:, 1] + 1)
    assert_as_often(outcomes, np.outer(first, second).reshape(-1))


def test_bits_are_independent_and_follow_a_sigmoid_each():
    answers, logits = answered("ppo", spaces.MultiBinary((2,)), spread=1.0)
    ones = torch.sigmoid(logits).numpy()
    expected = [
        np.prod(np.where(bits, ones, 1.0 - ones)) for bits in itertools.product((0, 1), repeat=2)
    ]
    assert_as_often(answers["action"] @ np.array([2, 1]), np.array(expected))


def test_numbers_before_clipping_are_normal():
    answers, mean = answered("ppo", BOX, initial_log_std=-0.7, spread=0.5)
    assert_distributed(answers["record/raw_action"], stats.norm(mean.item(), np.exp(-0.7)))


@pytest.mark.parametrize("mask", [None, [True, False, True, True]], ids=["all", "masked"])
def test_dqn_explores_among_what_is_available(mask):
    answers, values = answered(
        "dqn", spaces.Discrete(4, 2), mask=mask, scalars={"epsilon": 0.4}, spread=1.0
    )
    available = np.array(mask or [True] * 4)
    best = np.where(available, values.numpy(), -np.inf).argmax()
    expected = 0.4 * available / available.sum()
    expected[best] += 0.6
    assert_as_often(answers["action"] - 2, expected)
    assert (answers["greedy_action"] - 2 == best).all()


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_deterministic_actors_explore_with_a_normal_around_them(name):
    # So narrow that nothing is clipped to the bounds.
    answers, _ = answered(name, BOX, scalars={"random_share": 0.0, "noise_scale": 0.1})
    around = answers["greedy_action"][0].item()
    assert abs(around - 1.0) < 1.0
    assert_distributed(answers["action"], stats.norm(around, 0.2))


def test_a_squashed_gaussian_is_normal_before_the_tanh():
    answers, head = answered("sac", BOX, scalars={"random_share": 0.0}, spread=0.4)
    mean, log_std = head.tolist()
    before = np.arctanh(
        ((answers["action"] - 1.0) / 2.0).astype(np.float64).clip(-1 + 1e-7, 1 - 1e-7)
    )
    assert_distributed(before, stats.norm(mean, np.exp(log_std)))
    np.testing.assert_allclose(answers["greedy_action"], 1.0 + 2.0 * np.tanh(mean), rtol=1e-4)


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac"])
def test_a_run_begins_with_actions_that_are_uniform_within_the_bounds(name):
    answers, _ = answered(name, BOX, scalars={"random_share": 1.0, "noise_scale": 0.1})
    assert_distributed(answers["action"], stats.uniform(-1.0, 4.0))
