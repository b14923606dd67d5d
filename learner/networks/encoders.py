"""From raw observations of any space to features.

An observation goes through two stages. A preprocessor has no parameters: it turns every leaf that
is no image into one float vector (normalised, one-hot) and hands images on as they are. An encoder
has the
parameters: convolutions for images, beside which the vector is laid.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common import spaces
from learner.networks.images import ImageEncoder, image_encoder, is_image
from learner.networks.normalisation import ObservationNormaliser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias, TypeGuard

    Images: TypeAlias = Callable[[spaces.Leaf], TypeGuard[spaces.Box]]


class ObservationPreprocessor(nn.Module):
    """Leaves of a space, in their order, to `[vector, *images]`.

    The vector [N, F] float32 is there where any leaf is no image: first the numbers (every Box that
    is no image), normalised if asked, then one-hot Discrete and MultiDiscrete, and MultiBinary.

    Args:
        leaves: Of the space.
        normalise: Whether numbers are.
        convolved: Which leaves are images.

    Attributes:
        numbers: How many of the F are numbers.
        parts: How many tensors it gives.
        normaliser: None where observations are taken as they are.
    """

    def __init__(
        self,
        leaves: Sequence[spaces.Leaf],
        *,
        normalise: bool,
        convolved: Images = is_image,
    ) -> None:
        super().__init__()
        self._images = [i for i, leaf in enumerate(leaves) if convolved(leaf)]
        self._boxes = [
            i
            for i, leaf in enumerate(leaves)
            if isinstance(leaf, spaces.Box) and i not in self._images
        ]
        self._bits = [i for i, leaf in enumerate(leaves) if not isinstance(leaf, spaces.Box)]
        self.numbers = sum(_width(leaves[i]) for i in self._boxes)
        self.bits = nn.ModuleList(_bits_encoder(leaves[i]) for i in self._bits)
        self.parts = len(self._images) + bool(self.numbers or self._bits)
        self.normaliser = (
            ObservationNormaliser(self.numbers) if normalise and self.numbers else None
        )

    def raw_numbers(self, leaves: Sequence[Tensor]) -> Tensor:
        """The numbers [N, F'] before normalisation, which the statistics are of."""
        return _joined([_flat(leaves[i]).to(torch.float32) for i in self._boxes])

    def forward(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """Leaves `[N, *shape]` to `[vector [N, F], *images]`, without an empty vector."""
        vector = []
        if self.numbers:
            numbers = self.raw_numbers(leaves)
            vector.append(numbers if self.normaliser is None else self.normaliser(numbers))
        for encode, i in zip(self.bits, self._bits, strict=True):
            vector.append(encode(_flat(leaves[i])).to(torch.float32))
        parts = [_joined(vector)] if vector else []
        return parts + [leaves[i] for i in self._images]


class ObservationEncoder(nn.Module):
    """What a preprocessor gives to features [N, F]: images through a CNN each, the vector as it is.

    Args:
        leaves: Of the space.
        convolved: Which of them are images, as the preprocessor was told.

    Attributes:
        features: F.
        learns: Whether there is anything to learn in it, which takes an image.
    """

    def __init__(self, leaves: Sequence[spaces.Leaf], convolved: Images = is_image) -> None:
        super().__init__()
        images: list[ImageEncoder] = [image_encoder(leaf) for leaf in leaves if convolved(leaf)]
        width = sum(_width(leaf) for leaf in leaves if not convolved(leaf))
        self.images = nn.ModuleList(images)
        self.features = width + sum(image.features for image in images)
        self.learns = len(images) > 0
        self._has_vector = width > 0

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """`[vector, *images]` to [N, F]."""
        vector = list(parts[:1]) if self._has_vector else []
        images = parts[len(vector) :]
        encoded = [encode(image) for encode, image in zip(self.images, images, strict=True)]
        return _joined(vector + encoded)


class _OneHot(nn.Module):
    """[N, K] integers to a one-hot vector each, side by side: [N, sum(n)] bool."""

    values: Tensor
    entries: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__()
        if isinstance(space, spaces.Discrete):
            space = spaces.MultiDiscrete((space.n,), (space.start,))
        ranges = list(zip(space.n, space.start, strict=True))
        values = [start + i for n, start in ranges for i in range(n)]
        entries = [entry for entry, (n, _) in enumerate(ranges) for _ in range(n)]
        self.register_buffer("values", torch.tensor(values), persistent=False)
        self.register_buffer("entries", torch.tensor(entries), persistent=False)
        self._several = len(ranges) > 1

    def forward(self, integers: Tensor) -> Tensor:
        if self._several:
            integers = integers.index_select(1, self.entries)
        return integers == self.values


def _bits_encoder(leaf: spaces.Leaf) -> nn.Module:
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        return _OneHot(leaf)
    return nn.Identity()


def _width(leaf: spaces.Leaf) -> int:
    """What a leaf that is no image takes of the vector."""
    match leaf:
        case spaces.Discrete():
            return leaf.n
        case spaces.MultiDiscrete():
            return sum(leaf.n)
        case _:
            return math.prod(leaf.shape)


def _flat(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 2 else tensor.reshape(-1, math.prod(tensor.shape[1:]))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), 1)
