"""Losses of Q-learning by hand, the dueling identity, and epsilon-greedy against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learner_support import draw
from torch import nn

from common.signature import Noise
from learner.losses import q_learning
from learner.networks.bodies import mlp
from learner.networks.direct_mlp import DirectMLP
from learner.networks.distributions import available
from learner.networks.q_values import DuelingHead, epsilon_greedy, noise_width

TARGET = torch.tensor([[1.0, 2.0, 3.0], [4.0, -1.0, 0.5]])
ONLINE = torch.tensor([[5.0, 0.0, 4.0], [0.0, 1.0, 2.0]])


def test_without_double_the_target_network_chooses_and_values():
    assert q_learning.greedy_values(TARGET).tolist() == [3.0, 4.0]


def test_with_double_the_online_network_chooses():
    assert q_learning.double_values(TARGET, ONLINE).tolist() == [1.0, 0.5]


def test_unavailable_actions_are_never_chosen():
    mask = torch.tensor([[False, True, True], [True, True, False]])
    assert q_learning.double_values(TARGET, available(ONLINE, mask)).tolist() == [3.0, -1.0]
    assert q_learning.greedy_values(available(TARGET, mask)).tolist() == [3.0, 4.0]


def test_targets_by_hand():
    # A 3-step window of rewards 1, 0.5, 2 under gamma 0.9; the same one terminated; one that was
    # cut off after 2 steps and bootstraps with gamma^2.
    returns = torch.tensor([3.07, 3.07, 1.45])
    discounts = torch.tensor([0.729, 0.0, 0.81])
    found = q_learning.bootstrapped(returns, discounts, torch.tensor([10.0, 10.0, 10.0]))
    torch.testing.assert_close(found, torch.tensor([10.36, 3.07, 9.55]))


def test_losses_by_hand():
    values, targets = torch.tensor([0.0, 0.5, 3.0]), torch.tensor([0.0, 0.0, 1.0])
    huber, squared = q_learning.HUBER, q_learning.HALF_SQUARED
    assert huber.loss(values, targets).tolist() == [0.0, 0.125, 1.5]
    assert huber.slope(values, targets).tolist() == [0.0, 0.5, 1.0]
    assert squared.loss(values, targets).tolist() == [0.0, 0.125, 2.0]
    assert squared.slope(values, targets).tolist() == [0.0, 0.5, 2.0]


@pytest.mark.parametrize("loss", [q_learning.HUBER, q_learning.HALF_SQUARED])
def test_a_slope_is_what_autograd_says(loss):
    values, targets = torch.randn(50, requires_grad=True), torch.randn(50)
    (expected,) = torch.autograd.grad(loss.loss(values, targets).sum(), values)
    torch.testing.assert_close(loss.slope(values.detach(), targets), expected)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [(), (7,), (8, 6, 5)])
def test_an_mlp_by_hand_is_the_module(hidden, activation):
    network = mlp(4, hidden, 3, activation=activation, head_gain=1.0)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    rows, slopes = torch.randn(9, 4), torch.randn(9, 3)
    expected = torch.autograd.grad(network(rows), list(network.parameters()), slopes)
    direct = DirectMLP(network)
    outputs, entered = direct.forward(rows)
    direct.backward(entered, slopes)
    torch.testing.assert_close(outputs, network(rows).detach())
    torch.testing.assert_close([p.grad for p in network.parameters()], list(expected))
    torch.testing.assert_close(direct(rows), outputs)


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(4, 2),
        nn.Sequential(nn.Linear(4, 3), nn.ReLU()),
        nn.Sequential(nn.Linear(4, 3, bias=False)),
        nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)),
    ],
)
def test_other_networks_are_left_to_autograd(network):
    assert not DirectMLP.fits(network)
    with pytest.raises(ValueError, match="call it as a module"):
        DirectMLP(network)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_dueling_values_average_to_the_value_of_the_state(hidden):
    head = DuelingHead(4, 3, hidden_sizes=hidden, activation="relu")
    features = torch.randn(5, 4)
    values = head(features)
    state = head.value(head.shared(features))
    torch.testing.assert_close(values.mean(1, keepdim=True), state)
    # A constant added to all advantages changes nothing.
    with torch.no_grad():
        head.advantages[-1].bias += 3.0
    torch.testing.assert_close(head(features), values)


def test_each_dueling_stream_has_a_last_hidden_layer_of_its_own():
    head = DuelingHead(4, 3, hidden_sizes=(8, 6), activation="relu")

    def shapes(layers):
        return [tuple(layer.weight.shape) for layer in layers if isinstance(layer, nn.Linear)]

    assert shapes(head.shared) == [(8, 4)]
    assert shapes(head.value) == [(6, 8), (1, 6)]
    assert shapes(head.advantages) == [(6, 8), (3, 6)]


def choices(epsilon: float, mask: list[bool] | None, *, count: int = 60_000):
    """How often each action came, of values 1, 2, 3, 0."""
    values = torch.tensor([1.0, 2.0, 3.0, 0.0]).expand(count, 4)
    masks = None if mask is None else torch.tensor(mask).expand(count, 4)
    width = noise_width(4, masked=mask is not None)
    noise = draw(np.random.default_rng(0), Noise.OPEN_UNIFORM, (count, width))
    found = epsilon_greedy(values, torch.full((count,), epsilon), torch.from_numpy(noise), masks)
    greedy = set(found.greedy.tolist())
    return np.bincount(found.action.numpy(), minlength=4) / count, greedy


@pytest.mark.parametrize(
    ("epsilon", "mask", "expected"),
    [
        (0.0, None, [0, 0, 1, 0]),
        (1.0, None, [0.25] * 4),
        (0.2, None, [0.05, 0.05, 0.85, 0.05]),
        (0.3, [True, True, False, True], [0.1, 0.8, 0, 0.1]),
        (1.0, [True, False, False, True], [0.5, 0, 0, 0.5]),
        (0.6, [False, False, False, True], [0, 0, 0, 1]),
    ],
)
def test_actions_come_as_often_as_epsilon_says(epsilon, mask, expected):
    frequencies, greedy = choices(epsilon, mask)
    expected = np.array(expected, float)
    allowed = 5.0 * np.sqrt(expected * (1 - expected) / 60_000)
    assert (np.abs(frequencies - expected) <= allowed).all(), frequencies
    assert greedy == {int(expected.argmax())} or epsilon == 1.0


def test_a_mask_that_allows_nothing_gives_some_action():
    frequencies, _ = choices(1.0, [False] * 4)
    np.testing.assert_allclose(frequencies, 0.25, atol=0.02)


@pytest.mark.parametrize("actions", [1, 3, 7, 18, 1000, 2**20])
def test_the_largest_noise_gives_the_last_action_and_the_smallest_the_first(actions):
    ends = torch.tensor([[2.0**-24, 2.0**-24], [2.0**-24, 1.0 - 2.0**-24]])
    found = epsilon_greedy(torch.zeros(2, actions), torch.ones(2), ends, None)
    assert found.action.tolist() == [0, actions - 1]
