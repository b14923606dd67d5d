"""Distributions against torch's, and what a graph may be fed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from learner_support import box, draw

from common import spaces
from common.errors import UnsupportedSpaceError
from common.signature import Noise
from learner.networks.distributions import distribution_of

FINEST = 2.0**-24
"""The least distance of an open uniform from 0 and from 1."""


def uniforms(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(draw(np.random.default_rng(seed), Noise.OPEN_UNIFORM, shape))


def rows(head, count: int) -> torch.Tensor:
    return torch.tensor([head], dtype=torch.float32).expand(count, -1)


def assert_frequencies(actions: torch.Tensor, probabilities: torch.Tensor) -> None:
    """Within five standard errors of each probability."""
    counts = torch.bincount(actions, minlength=len(probabilities)).double() / len(actions)
    allowed = 5.0 * (probabilities * (1 - probabilities) / len(actions)).sqrt() + 1e-9
    assert ((counts - probabilities).abs() <= allowed).all(), (counts, probabilities)


def test_discrete_actions_come_as_often_as_the_softmax_says():
    distribution = distribution_of(spaces.Discrete(4))
    head = rows([0.5, -1.0, 2.0, 0.0], 20_000)
    act = distribution.act(head, uniforms(20_000, 4), None)
    assert_frequencies(act.action, torch.softmax(head[0].double(), -1))
    expected = torch.distributions.Categorical(logits=head).log_prob(act.action)
    torch.testing.assert_close(act.log_prob, expected)
    assert (act.greedy == 2).all()


def test_discrete_log_prob_and_entropy_are_torchs():
    distribution = distribution_of(spaces.Discrete(5, 3))
    head = torch.randn(7, 5)
    actions = torch.randint(3, 8, (7,))
    expected = torch.distributions.Categorical(logits=head)
    encoded = distribution.encode(actions)
    torch.testing.assert_close(
        distribution.log_prob(head, encoded, None), expected.log_prob(actions - 3)
    )
    torch.testing.assert_close(distribution.entropy(head, None), expected.entropy())


def test_discrete_actions_begin_at_start():
    distribution = distribution_of(spaces.Discrete(2, -7))
    act = distribution.act(rows([0.0, 50.0], 3), uniforms(3, 2), None)
    assert act.action.tolist() == [-6, -6, -6]
    assert act.greedy.tolist() == [-6, -6, -6]
    assert distribution.encode(act.action).tolist() == [1, 1, 1]


@pytest.mark.parametrize("noise", [FINEST, 1.0 - FINEST])
def test_the_ends_of_the_noise_are_harmless(noise):
    distribution = distribution_of(spaces.Discrete(3))
    head = rows([0.0, 90.0, -200.0], 1)
    act = distribution.act(head, torch.full((1, 3), noise), None)
    assert act.action.tolist() == [1]
    assert torch.isfinite(act.log_prob).all()


def test_unavailable_actions_never_come():
    distribution = distribution_of(spaces.Discrete(3))
    mask = torch.tensor([[True, False, True]]).expand(5000, -1)
    head = rows([0.0, 30.0, 0.5], 5000)
    act = distribution.act(head, uniforms(5000, 3), mask)
    expected = torch.softmax(torch.tensor([0.0, -math.inf, 0.5], dtype=torch.float64), -1)
    assert_frequencies(act.action, expected)
    assert (act.greedy == 2).all()
    torch.testing.assert_close(act.log_prob, distribution.log_prob(head, act.action, mask))
    entropy = torch.distributions.Categorical(probs=expected).entropy().float()
    torch.testing.assert_close(distribution.entropy(head, mask)[0], entropy)


def test_a_mask_is_in_the_gradient_too():
    distribution = distribution_of(spaces.Discrete(3))
    head = torch.zeros(1, 3, requires_grad=True)
    mask = torch.tensor([[True, False, True]])
    distribution.log_prob(head, torch.tensor([0]), mask).sum().backward()
    torch.testing.assert_close(head.grad, torch.tensor([[0.5, 0.0, -0.5]]))


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete((2, 3))])
def test_a_mask_that_allows_nothing_gives_a_uniform_choice(space):
    distribution = distribution_of(space)
    width = distribution.width
    head, mask = torch.randn(2000, width), torch.zeros(2000, width, dtype=torch.bool)
    act = distribution.act(head, uniforms(2000, width), mask)
    assert torch.isfinite(act.log_prob).all()
    last = act.action.reshape(2000, -1)[:, -1]
    assert_frequencies(last, torch.full((3,), 1.0 / 3.0, dtype=torch.float64))


@pytest.mark.parametrize("sizes", [(3, 2, 4), (3, 3)])
def test_choices_are_independent_and_padding_never_comes(sizes):
    distribution = distribution_of(spaces.MultiDiscrete(sizes))
    flat = torch.linspace(-1.5, 1.5, sum(sizes)).tolist()
    head = rows(flat, 20_000)
    act = distribution.act(head, uniforms(20_000, sum(sizes)), None)
    expected = torch.zeros(20_000)
    for choice, logits in enumerate(head[0].split(sizes)):
        chosen = act.action[:, choice]
        assert_frequencies(chosen, torch.softmax(logits.double(), -1))
        expected += torch.distributions.Categorical(logits=logits).log_prob(chosen)
        assert (act.greedy[:, choice] == sizes[choice] - 1).all()
    torch.testing.assert_close(act.log_prob, expected)
    torch.testing.assert_close(distribution.log_prob(head, act.action, None), expected)


def test_masks_of_choices_are_flat():
    distribution = distribution_of(spaces.MultiDiscrete((2, 3), (5, -1)))
    mask = torch.tensor([[False, True, True, False, False]]).expand(50, -1)
    act = distribution.act(torch.randn(50, 5), uniforms(50, 5), mask)
    assert (act.action == torch.tensor([6, -1])).all()
    torch.testing.assert_close(act.log_prob, torch.zeros(50))
    assert (distribution.encode(act.action) == torch.tensor([1, 0])).all()
    torch.testing.assert_close(distribution.entropy(torch.randn(50, 5), mask), torch.zeros(50))


def test_the_entropy_of_choices_is_the_sum():
    distribution = distribution_of(spaces.MultiDiscrete((3, 2)))
    head = torch.randn(4, 5)
    expected = sum(
        torch.distributions.Categorical(logits=part).entropy() for part in head.split((3, 2), 1)
    )
    torch.testing.assert_close(distribution.entropy(head, None), expected)


def test_bits_are_independent():
    distribution = distribution_of(spaces.MultiBinary((2, 2)))
    head = rows([0.5, -1.0, 30.0, -30.0], 20_000)
    act = distribution.act(head, uniforms(20_000, 4), None)
    assert act.action.shape == (20_000, 2, 2)
    assert act.action.dtype == torch.int8
    bits = act.action.reshape(-1, 4)
    for bit, probability in enumerate(torch.sigmoid(head[0].double())):
        assert_frequencies(bits[:, bit].long(), torch.stack((1 - probability, probability)))
    expected = torch.distributions.Bernoulli(logits=head)
    encoded = distribution.encode(act.action)
    torch.testing.assert_close(act.log_prob, expected.log_prob(encoded).sum(-1))
    torch.testing.assert_close(distribution.log_prob(head, encoded, None), act.log_prob)
    torch.testing.assert_close(distribution.entropy(head, None), expected.entropy().sum(-1))
    assert act.greedy[0].tolist() == [[1, 0], [1, 0]]


def test_normals_are_recorded_before_they_are_clipped():
    distribution = distribution_of(box(2, low=-1.0, high=1.0), initial_log_std=math.log(3.0))
    head = rows([0.5, -4.0], 5000)
    noise = torch.from_numpy(draw(np.random.default_rng(0), Noise.STANDARD_NORMAL, (5000, 2)))
    act = distribution.act(head, noise, None)
    torch.testing.assert_close(act.raw, head + 3.0 * noise)
    torch.testing.assert_close(act.action, act.raw.clamp(-1.0, 1.0))
    assert (act.action != act.raw).any()
    assert act.greedy[0].tolist() == [0.5, -1.0]
    expected = torch.distributions.Normal(head, 3.0)
    torch.testing.assert_close(act.log_prob, expected.log_prob(act.raw).sum(-1))
    torch.testing.assert_close(distribution.log_prob(head, act.raw, None), act.log_prob)
    torch.testing.assert_close(distribution.entropy(head, None), expected.entropy().sum(-1))


def test_bounds_in_double_precision_are_kept_exactly():
    space = box(1, low=-0.1, high=0.1, dtype=np.float64)
    act = distribution_of(space).act(rows([5.0], 1), torch.zeros(1, 1), None)
    assert act.action.dtype == torch.float64
    assert act.action.item() == 0.1
    assert act.raw.dtype == torch.float32


def test_bounds_may_be_half_open_or_none():
    space = spaces.Box(np.array([-np.inf, 0.0], np.float32), np.array([1.0, np.inf], np.float32))
    act = distribution_of(space).act(rows([-5.0, -5.0], 1), torch.zeros(1, 2), None)
    assert act.action.tolist() == [[-5.0, 0.0]]
    free = distribution_of(box(2)).act(rows([1e6, -1e6], 1), torch.zeros(1, 2), None)
    assert free.action.tolist() == [[1e6, -1e6]]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_actions_have_the_shape_of_the_space(shape):
    distribution = distribution_of(box(*shape, low=-1.0, high=1.0))
    act = distribution.act(
        torch.zeros(4, distribution.width), torch.zeros(4, distribution.width), None
    )
    assert act.action.shape == (4, *shape)
    assert act.raw.shape == (4, distribution.width)
    assert act.log_prob.shape == (4,)


@pytest.mark.parametrize(
    ("space", "remedy"),
    [
        (spaces.Dict({"a": spaces.Discrete(2)}), "flatten it"),
        (spaces.Box(np.zeros(2, np.int32), np.ones(2, np.int32)), "make it MultiDiscrete"),
    ],
)
def test_what_no_distribution_fits_is_refused_with_a_remedy(space, remedy):
    with pytest.raises(UnsupportedSpaceError, match=remedy):
        distribution_of(space)
