"""MLPs side by side: one node of autograd's graph, which says what the layers by themselves say."""

from __future__ import annotations

import pytest
import torch

from learner.networks.stacked_mlp import StackedMLP


def by_layers(network: StackedMLP, rows, which):
    """What autograd records of each layer."""
    for number, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        if which is not None:
            weight, bias = weight[which], bias[which]  # noqa: PLW2901 - the chosen ones
        rows = torch.matmul(network.activation(rows) if number else rows, weight) + bias
    return rows


@pytest.mark.parametrize("which", [None, (1, 0, 1)])
@pytest.mark.parametrize("shared", [False, True], ids=["own_rows", "same_rows"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("sizes", [(), (6,), (5, 7)])
def test_values_and_gradients_are_those_of_the_layers(sizes, activation, shared, which):
    torch.manual_seed(0)
    network = StackedMLP(2, 6, sizes, 3, activation=activation, head_gain=1.0)
    for bias in network.biases:
        torch.nn.init.normal_(bias)
    chosen = None if which is None else torch.tensor(which)
    shape = (9, 6) if shared else (2 if which is None else 3, 9, 6)
    rows = torch.randn(shape, requires_grad=True)
    outputs, expected = network(rows, chosen), by_layers(network, rows, chosen)
    torch.testing.assert_close(outputs, expected)
    slopes = torch.randn_like(outputs)
    wanted = [rows, *network.parameters()]
    found, known = (torch.autograd.grad(each, wanted, slopes) for each in (outputs, expected))
    torch.testing.assert_close(list(found), list(known))


def test_rows_that_need_no_gradient_get_none_and_stay_as_they_are():
    network = StackedMLP(1, 4, (8,), 2, activation="relu", head_gain=1.0)
    rows = torch.randn(1, 5, 4)
    before = rows.clone()
    network(rows).sum().backward()
    assert rows.grad is None
    assert torch.equal(rows, before)
    assert all(one.grad is not None for one in network.parameters())
