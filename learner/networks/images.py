"""Convolutional encoders, and what counts as an image.

An image is a Box of three dimensions, at least 5 pixels high and wide, or of two dimensions, of
bytes, at least 36. The channels of the former are the smaller one of the first and the last
dimension, the last if they are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from common import spaces
from learner.networks.bodies import orthogonal

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALLEST_IMAGE = 5
SMALLEST_NATURE_IMAGE = 36
"""Pixels that the Nature CNN needs so that something is left after its third convolution."""


class _Layout(NamedTuple):
    channels: int
    height: int
    width: int
    channels_last: bool = False


def _layout(shape: tuple[int, ...]) -> _Layout:
    if len(shape) == 2:
        return _Layout(1, shape[0], shape[1])
    first, middle, last = shape
    if last <= first:
        return _Layout(last, first, middle, channels_last=True)
    return _Layout(first, middle, last)


def is_image(leaf: spaces.Leaf) -> TypeGuard[spaces.Box]:
    """Whether a leaf goes through convolutions."""
    if not isinstance(leaf, spaces.Box) or len(leaf.shape) not in {2, 3}:
        return False
    layout = _layout(leaf.shape)
    pixels = min(layout.height, layout.width)
    if len(leaf.shape) == 2:
        return leaf.dtype == np.uint8 and pixels >= SMALLEST_NATURE_IMAGE
    return pixels >= SMALLEST_IMAGE


class ImageEncoder(nn.Module):
    """Convolutions and one fully connected layer, each with a ReLU.

    Bytes are scaled to [0, 1]; pixels of any other dtype are taken as they are.

    Attributes:
        features: F, the width of the output.
    """

    def __init__(
        self, space: spaces.Box, convolutions: Sequence[tuple[int, int, int]], features: int
    ) -> None:
        super().__init__()
        self.features = features
        self._scale = 1.0 / 255.0 if space.dtype == np.uint8 else None
        self._grey = len(space.shape) == 2
        channels, height, width, self._channels_last = _layout(space.shape)
        layers: list[nn.Module] = []
        for outputs, kernel, stride in convolutions:
            layers += [orthogonal(nn.Conv2d(channels, outputs, kernel, stride)), nn.ReLU()]
            channels = outputs
            height, width = ((size - kernel) // stride + 1 for size in (height, width))
        self._pixels = channels * height * width
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(orthogonal(nn.Linear(self._pixels, features)), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """[N, *shape], channels first, last or none, of any dtype, to [N, F]."""
        pixels = images.to(torch.float32)
        if self._scale is not None:
            pixels = pixels * self._scale
        if self._grey:
            pixels = pixels.unsqueeze(1)
        elif self._channels_last:
            pixels = pixels.permute(0, 3, 1, 2).contiguous()
        # Not `flatten`, which asks for the shape at run time in four nodes.
        features: Tensor = self.dense(self.convolutions(pixels).reshape(-1, self._pixels))
        return features


def image_encoder(space: spaces.Box) -> ImageEncoder:
    """The Nature CNN from 36 pixels on, below that the one of MinAtar's paper.

    Mnih et al. 2015 (https://doi.org/10.1038/nature14236); Young and Tian 2019
    (https://arxiv.org/abs/1903.03176): 16 filters of 3x3 and 128 units.
    """
    layout = _layout(space.shape)
    if min(layout.height, layout.width) >= SMALLEST_NATURE_IMAGE:
        return ImageEncoder(space, ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512)
    return ImageEncoder(space, ((16, 3, 1),), 128)
