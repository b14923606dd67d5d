"""Networks of several heads: what they answer, and their gradients by hand and by autograd."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from learner_support import box, image

from common import spaces
from learner.algorithms.optimiser import FlatAdam
from learner.networks.heads import ByAutograd, ByHand, Heads, differentiable
from learner.networks.observations import encoder_of


def heads(space=None, *, activation="relu", **given) -> Heads:
    """Twin critics over three numbers and two of an action."""
    encoder = encoder_of(space or box(3), network="auto")
    given = {"count": 2, "beside": 2, "hidden_sizes": (8, 6), "head_gain": 1.0, **given}
    torch.manual_seed(0)
    return Heads(encoder, 1, activation=activation, **given)


def with_gradients(network: Heads) -> Heads:
    """The network with a place for its gradients, full of what was there."""
    FlatAdam(
        dict(network.named_parameters()), learning_rate=1.0, epsilon=1.0, max_gradient_norm=None
    )
    for parameter in network.parameters():
        parameter.grad.fill_(7.0)
    return network


def test_every_head_sees_features_and_action():
    network = heads(hidden_sizes=())
    vector, action = torch.randn(4, 3), torch.randn(4, 2)
    found = network([vector, action])
    rows = torch.cat((vector, action), 1)
    expected = torch.cat([layer(rows) for (layer,) in network.heads], 1)
    assert torch.equal(found, expected)
    assert torch.equal(network([vector, action], 1), expected[:, :1])


@pytest.mark.parametrize(("learns", "expected"), [(False, (256, 256)), (True, (256,))])
def test_hidden_layers_that_nobody_asked_for(learns, expected):
    network = heads(image(10, 10, 3) if learns else box(3), hidden_sizes=None)
    sizes = [layer.out_features for layer in network.heads[0][:-1] if hasattr(layer, "weight")]
    assert tuple(sizes) == expected


def test_mlps_are_differentiated_by_hand_and_what_learns_by_autograd():
    assert isinstance(differentiable(heads()), ByHand)
    assert isinstance(differentiable(heads(image(10, 10, 3))), ByAutograd)


@pytest.mark.parametrize("count", [None, 1])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("sizes", [(), (8, 6)])
def test_gradients_by_hand_are_those_of_autograd(sizes, activation, count):
    one = with_gradients(heads(hidden_sizes=sizes, activation=activation))
    other = with_gradients(copy.deepcopy(one))
    inputs = [torch.randn(5, 3), torch.randn(5, 2)]
    slope = torch.randn(5, 2 if count is None else count)
    found = {}
    for network, kind in ((one, ByHand), (other, ByAutograd)):
        function = kind(network, count)
        before = [parameter.grad.clone() for parameter in network.parameters()]
        outputs, recording = function.forward(inputs)
        assert torch.equal(function(inputs), outputs)
        assert not outputs.requires_grad
        of_action = function.gradient_of_action(recording, slope)
        after = [parameter.grad for parameter in network.parameters()]
        assert all(map(torch.equal, before, after)), "an action's gradient touched a parameter's"
        _, recording = function.forward(inputs)
        function.backward(recording, slope)
        trained = network.heads[:count].parameters()
        found[kind] = [outputs, of_action, *(parameter.grad.clone() for parameter in trained)]
    for by_hand, by_autograd in zip(found[ByHand], found[ByAutograd], strict=True):
        torch.testing.assert_close(by_hand, by_autograd)


def test_a_dict_with_an_image_is_differentiated_down_to_its_pixels():
    space = spaces.Dict({"camera": image(10, 10, 3), "speed": box(2)})
    network = with_gradients(heads(space))
    function = differentiable(network)
    generator = np.random.default_rng(0)
    pixels = torch.from_numpy(generator.integers(0, 255, (4, 10, 10, 3), np.uint8))
    inputs = [torch.randn(4, 2), pixels, torch.randn(4, 2)]
    _, recording = function.forward(inputs)
    function.backward(recording, torch.ones(4, 2))
    found = [parameter.grad.clone() for parameter in network.parameters()]
    expected = torch.autograd.grad(network(inputs).sum(), list(network.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_need_a_place():
    network = heads(image(10, 10, 3))
    function = differentiable(network)
    inputs = [torch.zeros(1, 10, 10, 3, dtype=torch.uint8), torch.zeros(1, 2)]
    _, recording = function.forward(inputs)
    with pytest.raises(ValueError, match="give it to FlatAdam"):
        function.backward(recording, torch.ones(1, 2))
