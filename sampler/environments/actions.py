"""What a policy answered, as the environment wants it: Python integers, rows, the space's dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


def for_each(space: gymnasium.Space[Any]) -> Callable[[NDArray[Any]], Sequence[Any]]:
    """A function from the actions `[B, ...]` of a policy to one action for each copy.

    What it returns is fresh: an environment may keep an action or write into it.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return lambda actions: actions.tolist()
    shape, dtype = space.shape or (), space.dtype
    return lambda actions: list(np.array(actions, dtype).reshape(len(actions), *shape))


def for_all(space: gymnasium.Space[Any], copies: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A function from the actions `[B, ...]` of a policy to a fresh array for all copies."""
    shape, dtype = (copies, *(space.shape or ())), space.dtype

    def batch(actions: NDArray[Any]) -> NDArray[Any]:
        fresh = actions.copy() if actions.dtype == dtype else actions.astype(dtype)
        return fresh if fresh.shape == shape else fresh.reshape(shape)

    return batch
