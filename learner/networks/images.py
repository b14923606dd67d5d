"""Convolutional encoders, and what counts as an image.

An image is a Box of three dimensions, at least 5 pixels high and wide, or of two dimensions, of
bytes, at least 36. The channels of the former are the smaller one of the first and the last
dimension, the last if they are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeGuard

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


def is_picture(leaf: spaces.Leaf) -> TypeGuard[spaces.Box]:
    """Whether a leaf has more pixels than networks without convolutions can make much of.

    Bytes, as many as the Nature CNN takes. Boards and other grids are few numbers.
    """
    if not is_image(leaf) or leaf.dtype != np.uint8:
        return False
    layout = _layout(leaf.shape)
    return min(layout.height, layout.width) >= SMALLEST_NATURE_IMAGE


class ConvolutionalEncoder(nn.Module):
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
        self._scale = _scale(space)
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


class PatchEncoder(nn.Module):
    """One convolution of stride 1 and one fully connected layer, each with a ReLU, tiny images.

    The convolution is a matrix product with patches that are gathered from the image: where there
    are 10 pixels, a library's convolution spends two and a half times as long. Scaling and
    channels are as in `ConvolutionalEncoder`.

    Attributes:
        features: F, the width of the output.
    """

    patches: Tensor

    def __init__(self, space: spaces.Box, filters: int, kernel: int, features: int) -> None:
        super().__init__()
        self.features = features
        self._scale = _scale(space)
        layout = _layout(space.shape)
        numbers = torch.arange(layout.channels * layout.height * layout.width).view(space.shape)
        pixels = numbers if layout.channels_last else numbers.view(layout[:3]).permute(1, 2, 0)
        patches = pixels.unfold(0, kernel, 1).unfold(1, kernel, 1)
        self._size = numbers.numel()
        self._patch = layout.channels * kernel * kernel
        self._filtered = patches.shape[0] * patches.shape[1] * filters
        self.register_buffer("patches", patches.reshape(-1).contiguous(), persistent=False)
        self.convolution = orthogonal(nn.Linear(self._patch, filters))
        self.dense = orthogonal(nn.Linear(self._filtered, features))

    def forward(self, images: Tensor) -> Tensor:
        """[N, *shape] of any dtype to [N, F]."""
        pixels = images.reshape(-1, self._size).to(torch.float32)
        if self._scale is not None:
            pixels = pixels * self._scale
        patches = pixels.index_select(1, self.patches).reshape(-1, self._patch)
        filtered = torch.relu(self.convolution(patches)).reshape(-1, self._filtered)
        return torch.relu(self.dense(filtered))


ImageEncoder: TypeAlias = ConvolutionalEncoder | PatchEncoder


def image_encoder(space: spaces.Box) -> ImageEncoder:
    """The Nature CNN from 36 pixels on, below that the one of MinAtar's paper.

    Mnih et al. 2015 (https://doi.org/10.1038/nature14236); Young and Tian 2019
    (https://arxiv.org/abs/1903.03176): 16 filters of 3x3 and 128 units.
    """
    layout = _layout(space.shape)
    if min(layout.height, layout.width) >= SMALLEST_NATURE_IMAGE:
        return ConvolutionalEncoder(space, ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512)
    return PatchEncoder(space, 16, 3, 128)


def _scale(space: spaces.Box) -> float | None:
    return 1.0 / 255.0 if space.dtype == np.uint8 else None
