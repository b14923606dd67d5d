"""From raw observations to features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learner_support import box, image
from torch import nn

from common import spaces
from common.errors import InvalidFieldError
from learner.networks.bodies import mlp
from learner.networks.encoders import ObservationEncoder, ObservationPreprocessor
from learner.networks.images import image_encoder, is_image
from learner.networks.observations import encoder_of, preprocessor_of


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (image(84, 84, 3), True),
        (image(4, 84, 84), True),
        (image(84, 84), True),
        (image(10, 10), False),
        (spaces.Box(np.zeros((10, 10, 4), bool), np.ones((10, 10, 4), bool)), True),
        (box(3, 4, 4), False),
        (box(84, 84), False),
        (box(17), False),
        (spaces.Discrete(3), False),
    ],
)
def test_what_is_an_image(space, expected):
    assert is_image(space) is expected


@pytest.mark.parametrize(
    ("space", "features"),
    [
        (image(84, 84, 3), 512),
        (image(36, 36, 1), 512),
        (image(35, 35, 1), 128),
        (box(10, 10, 4), 128),
    ],
)
def test_the_nature_network_from_36_pixels_on(space, features):
    encoder = image_encoder(space)
    pixels = torch.zeros((2, *space.shape))
    assert encoder(pixels).shape == (2, features)


def test_channels_are_found_first_and_last():
    torch.manual_seed(0)
    first, last = image_encoder(image(3, 40, 50)), image_encoder(image(40, 50, 3))
    last.load_state_dict(first.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8)
    torch.testing.assert_close(first(pixels), last(pixels.permute(0, 2, 3, 1)))


def test_bytes_are_scaled_and_other_pixels_are_not():
    torch.manual_seed(0)
    of_bytes, of_floats = image_encoder(image(36, 36, 1)), image_encoder(box(36, 36, 1))
    of_floats.load_state_dict(of_bytes.state_dict())
    pixels = torch.randint(0, 256, (2, 36, 36, 1), dtype=torch.uint8)
    torch.testing.assert_close(of_bytes(pixels), of_floats(pixels.float() / 255.0))


def test_the_parts_of_a_dict_in_their_order():
    space = spaces.Dict(
        {
            "a": spaces.Discrete(3, 5),
            "b": box(2),
            "c": spaces.MultiDiscrete((2, 3), (0, 1)),
            "d": spaces.MultiBinary((2, 1)),
            "e": image(40, 40, 1),
        }
    )
    leaves = [
        torch.tensor([6]),
        torch.tensor([[1.5, -2.5]]),
        torch.tensor([[1, 3]]),
        torch.tensor([[[1], [0]]], dtype=torch.int8),
        torch.zeros((1, 40, 40, 1), dtype=torch.uint8),
    ]
    preprocess = ObservationPreprocessor(list(spaces.leaves(space).values()), normalise=False)
    vector, pixels = preprocess(leaves)
    assert vector.tolist() == [[1.5, -2.5, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0]]
    assert pixels is leaves[-1]
    encoder = ObservationEncoder(list(spaces.leaves(space).values()))
    assert encoder.learns
    assert encoder([vector, pixels]).shape == (1, encoder.features) == (1, 12 + 512)


def test_only_numbers_are_normalised():
    leaves = [box(1), spaces.Discrete(2), box(2, 2)]
    preprocess = ObservationPreprocessor(leaves, normalise=True)
    assert preprocess.numbers == 5
    preprocess.normaliser.mean.fill_(1.0)
    (vector,) = preprocess([torch.ones(1, 1), torch.tensor([1]), torch.full((1, 2, 2), 3.0)])
    assert vector.tolist() == [[0.0, 2.0, 2.0, 2.0, 2.0, 0.0, 1.0]]


def test_an_integer_box_is_numbers():
    preprocess = ObservationPreprocessor([box(2, dtype=np.float32)], normalise=False)
    (vector,) = preprocess([torch.tensor([[3, -4]], dtype=torch.int32)])
    assert vector.dtype == torch.float32
    assert vector.tolist() == [[3.0, -4.0]]


def test_layers_are_orthogonal_with_their_gains():
    torch.manual_seed(0)
    body = mlp(8, (8,), 4, activation="tanh", head_gain=0.01)
    first, head = body[0].weight, body[2].weight
    torch.testing.assert_close(first @ first.T, 2.0 * torch.eye(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(head @ head.T, 1e-4 * torch.eye(4), atol=1e-8, rtol=0)
    assert not body[0].bias.any()
    assert isinstance(body[1], nn.Tanh)


def test_a_network_of_ones_own_sees_raw_leaves(own_module):
    class Network(nn.Module):
        def forward(self, position, kind):
            return torch.cat((position, kind.unsqueeze(1).float()), 1)

    own_module.factory = lambda space: Network()
    space = spaces.Dict({"a": box(2), "b": spaces.Discrete(3, 7)})
    encoder = encoder_of(space, network="own_module:factory")
    assert (encoder.features, encoder.learns) == (3, True)
    preprocess = preprocessor_of(space, network="own_module:factory", normalise=True)
    assert preprocess.normaliser is None
    leaves = [torch.tensor([[1.0, 2.0]]), torch.tensor([8])]
    assert encoder(preprocess(leaves)).tolist() == [[1.0, 2.0, 8.0]]


def test_a_network_that_gives_no_features_is_refused(own_module):
    own_module.factory = lambda space: nn.Flatten(0)
    with pytest.raises(InvalidFieldError, match=r"return a tensor of \[2, features\]"):
        encoder_of(box(3), network="own_module:factory")


@pytest.mark.parametrize("name", ["cnn", "no_such_module:factory", "math:factory"])
def test_a_network_that_is_not_there_is_refused(name):
    with pytest.raises(InvalidFieldError, match="network"):
        encoder_of(box(3), network=name)
