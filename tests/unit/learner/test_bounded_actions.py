"""Actions of a Box as networks see them, and the squashed Gaussian against integrals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learner_support import box

from common import spaces
from common.errors import UnsupportedSpaceError
from learner.networks.bounded_actions import (
    ActionBounds,
    at_random,
    bounded_box,
    squash,
    squashed,
    squashed_gradient,
)


def test_the_ends_of_the_unit_interval_are_the_bounds():
    low, high = np.array([-1.0, 2.0], np.float32), np.array([3.0, 10.0], np.float32)
    bounds = ActionBounds(spaces.Box(low, high))
    unit = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
    found = bounds.to_space(unit)
    assert found.tolist() == [[-1.0, 2.0], [3.0, 10.0], [1.0, 8.0]]
    torch.testing.assert_close(bounds.to_unit(found), unit)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_every_action_lies_within_the_bounds_of_its_dtype(shape, dtype):
    space = box(*shape, low=-0.1, high=0.7, dtype=dtype)
    bounds = ActionBounds(space)
    units = torch.rand(100, bounds.width) * 2 - 1
    units[0], units[1] = -1.0, 1.0
    found = bounds.to_space(units).numpy()
    assert found.shape == (100, *shape)
    assert found.dtype == dtype
    assert (found >= space.low).all()
    assert (found <= space.high).all()
    np.testing.assert_array_equal(found[0], space.low)
    np.testing.assert_array_equal(found[1], space.high)
    back = bounds.to_unit(torch.from_numpy(found))
    assert back.dtype == torch.float32
    np.testing.assert_allclose(back, units, atol=5e-3 if dtype == np.float16 else 1e-6)


def test_a_number_that_can_be_only_one_is_zero_to_networks():
    bounds = ActionBounds(box(2, low=1.5, high=1.5))
    action = bounds.to_space(torch.tensor([[0.3, -1.0]]))
    assert action.tolist() == [[1.5, 1.5]]
    assert bounds.to_unit(action).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (box(2), "a Box without bounds; take ppo, or"),
        (box(2, low=0, high=9, dtype=np.int64), "a Box of int64.*MultiDiscrete.*ppo"),
        (spaces.Discrete(3), "a Discrete; take dqn, sac or ppo"),
        (spaces.MultiBinary((3,)), "a MultiBinary; take ppo"),
        (spaces.Dict({"a": box(1)}), "a Dict; flatten it"),
    ],
)
def test_other_spaces_are_refused_with_what_could_be_done(space, reason):
    with pytest.raises(UnsupportedSpaceError, match=f"^ddpg takes actions of a .*{reason}"):
        bounded_box(space, "ddpg")


def test_the_first_uniform_number_decides_and_the_others_are_the_action():
    unit = torch.full((3, 2), 0.25)
    noise = torch.tensor([[0.2, 0.0, 1.0], [0.4, 0.5, 0.75], [0.6, 0.5, 0.5]])
    found = at_random(unit, noise, torch.tensor([0.3, 0.5, 0.5]))
    assert found.tolist() == [[-1.0, 1.0], [0.0, 0.5], [0.25, 0.25]]


def test_the_density_of_a_squashed_gaussian_integrates_to_one():
    mean, log_std = 0.4, -0.3
    # Draws whose actions lie on a grid of (-1, 1): noise = (atanh(a) - mean) / std.
    grid = np.linspace(-1.0, 1.0, 200_001)[1:-1]
    noise = (np.arctanh(grid) - mean) / np.exp(log_std)
    head = torch.tensor([[mean, log_std]], dtype=torch.float64).expand(len(grid), 2)
    drawn = squashed(head, torch.from_numpy(noise).unsqueeze(1))
    np.testing.assert_allclose(drawn.action[:, 0], grid, atol=1e-12)
    density = np.exp(drawn.log_prob.numpy())
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-6)
    # Its mean is that of tanh over the Gaussian.
    generator = np.random.default_rng(0)
    draws = np.tanh(mean + np.exp(log_std) * generator.standard_normal(400_000))
    assert np.trapezoid(density * grid, grid) == pytest.approx(draws.mean(), abs=0.005)


def test_the_density_is_that_of_torch_over_several_numbers_and_far_out():
    torch.manual_seed(0)
    head, noise = torch.randn(50, 6), torch.randn(50, 3)
    found = squashed(head, noise)
    mean, log_std = head[:, :3], head[:, 3:]
    normal = torch.distributions.Normal(mean, log_std.clamp(-20.0, 2.0).exp())
    transform = torch.distributions.TanhTransform(cache_size=1)
    reference = torch.distributions.TransformedDistribution(normal, [transform])
    action = transform(mean + normal.stddev * noise)
    torch.testing.assert_close(found.action, action)
    expected = reference.log_prob(action).sum(1)
    torch.testing.assert_close(found.log_prob, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(squash(head, noise), action)
    far = squashed(torch.tensor([[50.0, 0.0], [-50.0, 0.0]]), torch.zeros(2, 1))
    # -log sqrt(2 pi) - 2 (log 2 - 50), where 1 - tanh^2 itself is 0.
    torch.testing.assert_close(far.log_prob, torch.full((2,), -0.918939 - 2 * (0.693147 - 50)))


def test_deviations_are_clamped():
    drawn = squashed(torch.tensor([[0.0, 9.0], [0.0, -30.0], [0.0, 1.0]]), torch.ones(3, 1))
    expected = torch.tensor([[np.e**2], [np.exp(-20.0)], [np.e]], dtype=torch.float32)
    torch.testing.assert_close(drawn.reach, expected)
    assert drawn.free.tolist() == [[False], [False], [True]]


def test_the_gradient_by_hand_is_that_of_autograd():
    torch.manual_seed(0)
    head = torch.randn(20, 6, dtype=torch.float64)
    head[:3, 3:] = 5.0
    noise = torch.randn(20, 3, dtype=torch.float64)
    of_action = torch.randn(20, 3, dtype=torch.float64)
    found = squashed_gradient(squashed(head, noise), of_action, torch.tensor(0.3).double())
    leaf = head.clone().requires_grad_()
    mean, log_std = leaf[:, :3], leaf[:, 3:].clamp(-20.0, 2.0)
    before = mean + log_std.exp() * noise
    normal = torch.distributions.Normal(mean, log_std.exp()).log_prob(before)
    # Where the deviation is clamped 1 - tanh^2 itself is 0 now and then.
    stretched = 2.0 * (np.log(2.0) - before - torch.nn.functional.softplus(-2.0 * before))
    log_prob = (normal - stretched).sum(1)
    loss = (torch.tanh(before) * of_action).sum() + 0.3 * log_prob.sum()
    (expected,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(found, expected)
