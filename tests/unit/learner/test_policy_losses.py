"""Losses against hand-computed numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from learner.losses import policy, value


def test_the_surrogate_takes_the_pessimistic_of_both():
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1])
    advantages = torch.tensor([2.0, 2.0, -2.0, -2.0, 2.0])
    # Gains are cut at 1.2 and losses at 0.8; what makes it worse is never cut.
    expected = torch.tensor([-2.4, -1.0, 3.0, 1.6, -2.2])
    torch.testing.assert_close(policy.clipped_surrogate(ratio, advantages, 0.2), expected)


def test_the_surrogate_has_no_gradient_where_it_is_cut():
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1], requires_grad=True)
    advantages = torch.tensor([2.0, 2.0, -2.0, -2.0, 2.0])
    policy.clipped_surrogate(ratio, advantages, 0.2).sum().backward()
    assert ratio.grad.tolist() == [0.0, -2.0, 2.0, 0.0, -2.0]


def test_the_kl_estimate_by_hand():
    log_ratio = torch.tensor([0.0, math.log(2.0), -math.log(2.0)])
    found = policy.approximate_kl(log_ratio, log_ratio.exp())
    torch.testing.assert_close(found, torch.tensor([0.0, 1 - math.log(2.0), math.log(2.0) - 0.5]))


def test_the_clip_fraction_counts_both_sides():
    ratio = torch.tensor([0.7, 0.9, 1.1, 1.3])
    assert policy.clip_fraction(ratio, 0.2).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_advantages_are_normalised_over_the_rows_that_count():
    advantages = torch.tensor([[1.0, 1000.0, 3.0, 5.0], [2.0, 2.0, 7.0, 9.0]])
    weights = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    found = policy.normalise_advantages(advantages, weights)
    torch.testing.assert_close(found[0, [0, 2, 3]], torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(found[1, 2:], torch.tensor([-1.0, 1.0]) / math.sqrt(2.0))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_to_normalise_give_no_nan(count):
    weights = torch.tensor([[1.0, 0.0, 0.0]]) * count
    found = policy.normalise_advantages(torch.tensor([[3.0, 4.0, 5.0]]), weights)
    assert torch.isfinite(found).all()
    assert found[0, 0] * count == 0.0


def test_the_clipped_value_error_is_the_larger_one():
    values = torch.tensor([1.0, 3.0, 3.0])
    targets = torch.tensor([1.0, 1.0, 5.0])
    old = torch.tensor([0.0, 2.5, 2.5])
    # Clipped to within 0.2 of the old: 0.2, 2.7, 2.7.
    expected = torch.tensor([0.64, 4.0, 5.29])
    torch.testing.assert_close(value.clipped_squared_error(values, targets, old, 0.2), expected)
    assert value.squared_error(values, targets).tolist() == [0.0, 4.0, 4.0]


def test_values_explain_variance_as_numpy_says():
    generator = np.random.default_rng(0)
    values, targets = generator.standard_normal((2, 50)).astype(np.float32)
    expected = 1.0 - np.var(targets - values) / np.var(targets)
    assert value.explained_variance(values, targets) == pytest.approx(expected, rel=1e-5)
