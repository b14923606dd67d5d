"""Inputs drawn at random for a policy graph, to export, prove and demonstrate it with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from common import spaces
from common.signature import Noise, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from common.signature import GraphInput
    from learner.algorithms.behaviour import BehaviourPolicy

_LARGEST = 255
"""Of a number in an example: sums of much larger ones differ by more than a proof tolerates."""


def example_inputs(
    behaviour: BehaviourPolicy, generator: np.random.Generator, count: int
) -> dict[str, NDArray[Any]]:
    """For every input, by graph name, an array of `count` environments."""
    return drawn(behaviour.inputs, behaviour.leaves, generator, count)


def drawn(
    inputs: Iterable[GraphInput],
    leaves: Mapping[str, spaces.Leaf],
    generator: np.random.Generator,
    count: int,
) -> dict[str, NDArray[Any]]:
    """An array of `count` environments for each input; `leaves` are their spaces by graph name."""
    return {
        tensor.name: _draw(tensor, leaves.get(tensor.name), generator, count) for tensor in inputs
    }


def _draw(
    tensor: GraphInput, leaf: spaces.Leaf | None, generator: np.random.Generator, count: int
) -> NDArray[Any]:
    shape = (count, *tensor.shape)
    if leaf is not None:
        found = _draw_of(leaf, generator, shape)
    elif tensor.noise == Noise.OPEN_UNIFORM:
        found = (generator.integers(0, 2**23, shape) + 0.5) * 2.0**-23
    elif tensor.role == Role.SCALAR:
        found = generator.random(shape)
    elif tensor.dtype == np.bool_:
        # Mostly true: a mask that allows little would hide differences.
        found = generator.random(shape) < 0.8
    elif np.issubdtype(tensor.dtype, np.integer):
        found = generator.integers(0, 2, shape)
    else:
        found = generator.standard_normal(shape)
    return np.asarray(found, tensor.dtype)


def _draw_of(
    leaf: spaces.Leaf, generator: np.random.Generator, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Values of a space; of a Box normal ones within its bounds, or any of its integers."""
    match leaf:
        case spaces.Discrete() | spaces.MultiDiscrete():
            start = np.asarray(leaf.start)
            return generator.integers(start, start + np.asarray(leaf.n), shape)
        case spaces.MultiBinary():
            return generator.integers(0, 2, shape)
        case spaces.Box() if np.issubdtype(leaf.dtype, np.floating):
            found = np.clip(generator.standard_normal(shape), leaf.low, leaf.high)
            return np.clip(found, -_LARGEST, _LARGEST)
        case spaces.Box():
            low, high = (
                np.clip(bound.astype(np.float64), -_LARGEST, _LARGEST).astype(np.int64)
                for bound in (leaf.low, leaf.high)
            )
            return generator.integers(low, high, shape, endpoint=True)
