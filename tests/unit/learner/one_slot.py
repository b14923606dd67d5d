"""Columns of one slot, as losses take them, from numbers by hand."""

from __future__ import annotations

import numpy as np


def column(*numbers: float) -> np.ndarray:
    """[T, 1] float32."""
    return np.array(numbers, np.float32)[:, None]


def flags(*numbers: int) -> np.ndarray:
    """[T, 1] bool."""
    return np.array(numbers, np.bool_)[:, None]
