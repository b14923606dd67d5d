"""Natural gradients against what linear algebra says directly."""

from __future__ import annotations

import math

import pytest
import torch
from learner_support import box
from torch import nn

from common import spaces, specs
from learner.algorithms import natural_gradient
from learner.algorithms.actor_critic import Actor, Architecture
from learner.algorithms.optimiser import flatten

ROWS = 7


def positive_definite(size: int, *, seed: int = 0) -> torch.Tensor:
    """A symmetric matrix with eigenvalues of at least 1."""
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).double()
    return root @ root.T + torch.eye(size)


@pytest.mark.parametrize("seed", range(3))
def test_conjugate_gradient_solves_as_a_direct_solver_does(seed):
    matrix = positive_definite(12, seed=seed)
    vector = torch.randn(12, generator=torch.Generator().manual_seed(seed)).double()
    found = natural_gradient.conjugate_gradient(matrix.mv, vector, steps=24)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, vector), rtol=1e-4, atol=1e-5)


def test_as_many_steps_as_there_are_different_eigenvalues_are_enough():
    matrix = torch.diag(torch.tensor([1.0, 1.0, 4.0, 4.0, 9.0]))
    vector = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    exact = torch.tensor([1.0, 2.0, 0.75, 1.0, 5.0 / 9.0])
    products = []

    def product(direction):
        products.append(direction)
        return matrix @ direction

    found = natural_gradient.conjugate_gradient(product, vector, steps=10)
    torch.testing.assert_close(found, exact)
    assert len(products) == 3
    fewer = natural_gradient.conjugate_gradient(matrix.mv, vector, steps=2)
    assert not torch.allclose(fewer, exact, rtol=1e-2)


@pytest.mark.parametrize("number", [0.0, math.nan])
def test_nothing_is_solved_where_there_is_nothing(number):
    def product(direction):
        raise AssertionError(direction)

    found = natural_gradient.conjugate_gradient(product, torch.full((3,), number), steps=5)
    assert found.tolist() == [0.0, 0.0, 0.0]


def test_the_step_has_the_length_that_the_bound_allows():
    matrix, slope = positive_definite(6), torch.arange(1.0, 7.0).double()
    step = natural_gradient.trust_region_step(matrix.mv, slope, max_kl=0.02, steps=12)
    assert 0.5 * step @ matrix @ step == pytest.approx(0.02)
    torch.testing.assert_close(
        step / step.norm(), nn.functional.normalize(torch.linalg.solve(matrix, slope), dim=0)
    )


@pytest.mark.parametrize("slope", [0.0, math.nan, math.inf])
def test_there_is_no_step_without_a_slope_or_beyond_numbers(slope):
    vector = torch.full((2,), slope)
    assert natural_gradient.trust_region_step(torch.clone, vector, max_kl=0.01, steps=3) is None


def actor_of(space: spaces.Space, *, action_mask: bool = False) -> Actor:
    """A small one in double precision."""
    architecture = Architecture(
        hidden_sizes=(3,),
        activation="tanh",
        network="auto",
        share_encoder=False,
        recurrent_units=0,
        normalise_observations=False,
        initial_log_std=0.3,
    )
    torch.manual_seed(0)
    actor = Actor(specs.single_agent(box(2), space, action_mask=action_mask), architecture).double()
    with torch.no_grad():
        # A head of the usual gain would make every distribution nearly uniform.
        actor.head[-1].weight.mul_(100.0)
    return actor


def scores(actor: Actor, log_prob: torch.Tensor) -> torch.Tensor:
    """The gradient of one log-probability, [P]."""
    parameters = list(actor.parameters())
    return natural_gradient.gradient(log_prob, parameters, retain_graph=True)


def expected_outer_products(actor, observations, actions, mask) -> torch.Tensor:
    """The Fisher matrix by its definition: the mean of E[score score'] over rows."""
    head = actor.head(observations)
    total = torch.zeros(())
    for action in actions:
        encoded = torch.tensor(action).expand(ROWS, *torch.tensor(action).shape)
        for log_prob in actor.distribution.log_prob(head, encoded, mask):
            score = scores(actor, log_prob)
            total = total + log_prob.exp().detach() * torch.outer(score, score) / ROWS
    return total


def products_with_every_axis(actor, observations, mask, *, damping: float) -> torch.Tensor:
    """The matrix that a FisherProduct is, column by column."""
    now = actor.distribution.describe(actor.head(observations), mask)
    divergence = actor.distribution.divergence(now.detach(), now).mean()
    parameters = list(actor.parameters())
    product = natural_gradient.FisherProduct(divergence, parameters, damping=damping)
    axes = torch.eye(sum(parameter.numel() for parameter in parameters)).double()
    return torch.stack([product(axis) for axis in axes])


OBSERVATIONS = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(1)).double()
MASK = torch.tensor([[True, False, True]]).expand(ROWS, -1)
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
BITS = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]


@pytest.mark.parametrize(
    ("space", "actions", "mask"),
    [
        (spaces.Discrete(3), [0, 1, 2], None),
        (spaces.Discrete(3), [0, 2], MASK),
        (spaces.MultiDiscrete((2, 3)), PAIRS, None),
        (spaces.MultiBinary((2,)), BITS, None),
    ],
    ids=["discrete", "masked", "multi_discrete", "multi_binary"],
)
def test_a_product_is_that_with_the_fisher_matrix(space, actions, mask):
    actor = actor_of(space, action_mask=mask is not None)
    expected = expected_outer_products(actor, OBSERVATIONS, actions, mask)
    found = products_with_every_axis(actor, OBSERVATIONS, mask, damping=0.0)
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 0.05


def test_a_product_is_that_with_the_fisher_matrix_of_normals():
    actor = actor_of(box(2))
    parameters = list(actor.parameters())
    assert parameters[0] is not actor.distribution.log_std
    at = [parameter is actor.distribution.log_std for parameter in parameters].index(True)
    offset = sum(parameter.numel() for parameter in parameters[:at])
    expected = 0.0
    for mean in actor.head(OBSERVATIONS).reshape(-1):
        slope = scores(actor, mean)
        expected = expected + torch.outer(slope, slope) * math.exp(-0.6) / ROWS
    expected[range(offset, offset + 2), range(offset, offset + 2)] += 2.0
    found = products_with_every_axis(actor, OBSERVATIONS, None, damping=0.0)
    # The parameter holds 0.3 in single precision.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_damping_is_added_to_the_diagonal():
    actor = actor_of(spaces.Discrete(3))
    plain = products_with_every_axis(actor, OBSERVATIONS, None, damping=0.0)
    damped = products_with_every_axis(actor, OBSERVATIONS, None, damping=0.25)
    torch.testing.assert_close(damped, plain + 0.25 * torch.eye(len(plain)).double())


def test_a_parameter_without_effect_is_left_alone():
    weight, idle = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.ones(2))
    divergence = (weight**2).sum() * 1.5
    product = natural_gradient.FisherProduct(divergence, [weight, idle], damping=0.5)
    assert product(torch.ones(3)).tolist() == [3.5, 0.5, 0.5]


def networks_vector() -> tuple[nn.Linear, torch.Tensor]:
    layer = nn.Linear(3, 2)
    return layer, flatten(layer.parameters())


def test_the_longest_acceptable_way_is_gone():
    layer, vector = networks_vector()
    start, step = vector.clone(), torch.linspace(1.0, 2.0, 8)
    seen = []

    def acceptable():
        seen.append(layer.weight.detach().clone())
        return len(seen) == 3

    shrunk = natural_gradient.line_search(vector, step, acceptable, tries=5, shrinkage=0.5)
    assert shrunk == 2
    torch.testing.assert_close(vector, start + 0.25 * step)
    for part, weight in zip((1.0, 0.5, 0.25), seen, strict=True):
        torch.testing.assert_close(weight, (start + part * step)[:6].view(2, 3))


def test_a_search_that_fails_restores_every_bit():
    layer, vector = networks_vector()
    with torch.no_grad():
        # Adding 1e8 to this and taking it away again leaves 0.
        layer.bias.fill_(1e-8)
    before = vector.clone()
    tries = []

    def acceptable():
        tries.append(vector.clone())
        return False

    step = torch.full_like(vector, 1e8)
    found = natural_gradient.line_search(vector, step, acceptable, tries=4, shrinkage=0.8)
    assert found is None
    assert len(tries) == 4
    assert torch.equal(vector, before)
    assert torch.equal(layer.bias, before[6:])
