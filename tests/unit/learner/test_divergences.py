"""The KL divergences of distributions of actions, against sums, integrals and draws."""

from __future__ import annotations

import itertools

import pytest
import torch
from learner_support import box

from common import spaces
from learner.networks.distributions import distribution_of

ROWS = 6


def heads(distribution, *, seed: int = 0, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two heads of several rows, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, ROWS, distribution.width)
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul(scale).unbind()


def divergence_of(distribution, before, now, mask=None) -> torch.Tensor:
    return distribution.divergence(
        distribution.describe(before, mask), distribution.describe(now, mask)
    )


def summed_over(actions, distribution, before, now, mask=None) -> torch.Tensor:
    """The sum of p log p/q over all actions there are, by `log_prob` alone."""
    total = torch.zeros(ROWS, dtype=torch.float64)
    for action in actions:
        encoded = torch.tensor(action).expand(ROWS, *torch.tensor(action).shape)
        log_p = distribution.log_prob(before, encoded, mask)
        log_q = distribution.log_prob(now, encoded, mask)
        total += torch.where(log_p.exp() > 0, log_p.exp() * (log_p - log_q), 0.0)
    return total


MASK = torch.tensor([[True, False, True, True]]).expand(ROWS, -1)
CHOICES = torch.tensor([[True, True, True, False, True]]).expand(ROWS, -1)


@pytest.mark.parametrize(
    ("space", "actions", "mask"),
    [
        (spaces.Discrete(4, 3), range(4), None),
        (spaces.Discrete(4), range(4), MASK),
        (spaces.MultiDiscrete((2, 3)), list(itertools.product(range(2), range(3))), None),
        (spaces.MultiDiscrete((2, 3)), list(itertools.product(range(2), range(3))), CHOICES),
        (spaces.MultiBinary((3,)), list(itertools.product((0.0, 1.0), repeat=3)), None),
    ],
    ids=["discrete", "masked", "multi_discrete", "masked_choices", "multi_binary"],
)
def test_it_is_the_sum_over_all_actions(space, actions, mask):
    distribution = distribution_of(space)
    before, now = heads(distribution)
    expected = summed_over(actions, distribution, before, now, mask)
    torch.testing.assert_close(divergence_of(distribution, before, now, mask), expected)
    assert (expected > 1e-3).all()


def test_that_of_normals_is_the_integral():
    distribution = distribution_of(box(1), initial_log_std=-0.3).double()
    before, now = heads(distribution)
    described = distribution.describe(before, None)
    points = torch.linspace(-30.0, 30.0, 60_001, dtype=torch.float64).reshape(-1, 1, 1)
    log_p = distribution.log_prob(before, points, None)
    with torch.no_grad():
        distribution.log_std.fill_(0.4)
    log_q = distribution.log_prob(now, points, None)
    expected = torch.trapezoid(log_p.exp() * (log_p - log_q), points[:, 0, 0], dim=0)
    found = distribution.divergence(described, distribution.describe(now, None))
    torch.testing.assert_close(found, expected)


def test_that_of_several_normals_is_torchs():
    distribution = distribution_of(box(2, 2), initial_log_std=0.2)
    before, now = (head.float() for head in heads(distribution))
    described = distribution.describe(before, None).detach()
    with torch.no_grad():
        distribution.log_std.copy_(torch.tensor([-1.0, -0.5, 0.0, 0.5]))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(before, torch.tensor(0.2).exp()),
        torch.distributions.Normal(now, distribution.log_std.exp()),
    )
    found = distribution.divergence(described, distribution.describe(now, None))
    torch.testing.assert_close(found, expected.sum(-1))


@pytest.mark.parametrize(
    ("space", "mask"),
    [
        (spaces.Discrete(4), MASK),
        (spaces.Discrete(4), torch.zeros_like(MASK)),
        (spaces.MultiDiscrete((2, 3)), CHOICES),
        (spaces.MultiDiscrete((2, 3)), torch.zeros_like(CHOICES)),
        (spaces.MultiBinary((3,)), None),
        (box(2), None),
    ],
)
def test_it_is_flat_where_nothing_has_changed(space, mask):
    distribution = distribution_of(space)
    head = torch.randn(ROWS, distribution.width, requires_grad=True)
    now = distribution.describe(head, mask)
    divergence = distribution.divergence(now.detach(), now)
    torch.testing.assert_close(divergence, torch.zeros(ROWS), atol=1e-6, rtol=0.0)
    (slope,) = torch.autograd.grad(divergence.sum(), head, create_graph=True)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0.0)
    (curved,) = torch.autograd.grad(slope.sum(), head)
    assert torch.isfinite(curved).all()


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiBinary((2,)), box(2)])
def test_what_is_far_away_stays_a_number(space):
    distribution = distribution_of(space)
    before, now = heads(distribution, scale=200.0)
    assert torch.isfinite(divergence_of(distribution, before.float(), now.float())).all()
