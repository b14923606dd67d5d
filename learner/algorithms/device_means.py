"""Means of what updates computed, that leave the device only when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_KEPT = 64
"""Additions before they become sums: a kernel for each would cost more than a small network's
step."""


class DeviceMeans:
    """Means by name over everything added since they were last taken.

    Args:
        names: Those of the terms, in the order of `add`.
        device: Where the terms are.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = tuple(names)
        self._device = device
        self._kept: list[tuple[Tensor, ...]] = []
        self._sums = torch.zeros(len(self._names), device=device)
        self._count = 0

    def add(self, *terms: Tensor) -> None:
        """Adds a term for each name: of any shape, but always of the same; its mean counts.

        The tensors are kept for a while: give none that is changed in place.
        """
        self._kept.append(tuple(term.detach() for term in terms))
        if len(self._kept) == _KEPT:
            self._fold()

    def take(self) -> dict[str, float]:
        """The means, empty where nothing was added; and starts over."""
        self._fold()
        if not self._count:
            return {}
        means = (self._sums / self._count).tolist()
        self._sums.zero_()
        self._count = 0
        return dict(zip(self._names, means, strict=True))

    @torch.no_grad()
    def _fold(self) -> None:
        if not self._kept:
            return
        columns = zip(*self._kept, strict=True)
        self._sums += len(self._kept) * torch.stack([torch.stack(c).mean() for c in columns])
        self._count += len(self._kept)
        self._kept.clear()
