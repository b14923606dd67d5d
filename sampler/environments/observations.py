"""Writers that put what an environment returns into arrays, compiled once for a space.

The hot loop calls them for every step, so a space is walked here, ahead of it: for a Box what
remains is a comparison of shapes and one assignment. A value of the wrong shape is an error and
never broadcast; values are cast to the array's dtype; NaN passes, for the learner to refuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium
import numpy as np

from common.errors import WiseRLError
from common.spaces import MASK_KEY, flat_mask
from sampler.environments import spaces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from sampler.environments.stepping import Observed

    Write: TypeAlias = Callable[[int, Any, Mapping[str, Any]], None]
    WriteAll: TypeAlias = Callable[[Any, Mapping[str, Any]], None]

Value: TypeAlias = Any
"""Whatever an environment returns; checked where it is written."""


class WrongObservationError(WiseRLError):
    """An observation that its space does not contain."""


def writer(space: gymnasium.Space[Any], observed: Observed) -> Write:
    """A function that writes one copy's observation and mask: `(position, observation, info)`."""
    rest, mask_in_observation = spaces.without_mask(space)
    write = _writer(rest, "", observed.leaves)
    mask = observed.mask
    if mask is None:
        return write

    def write_masked(position: int, value: Value, info: Mapping[str, Any]) -> None:
        write(position, value, info)
        source = value if mask_in_observation else info
        mask[position] = _flat_mask(source.get(MASK_KEY), mask.shape[1])

    return write_masked


def _writer(space: gymnasium.Space[Any], path: str, leaves: Mapping[str, NDArray[Any]]) -> Write:
    if isinstance(space, gymnasium.spaces.Dict):
        parts = [
            (key, _writer(entry, f"{path}/{key}" if path else key, leaves))
            for key, entry in sorted(space.spaces.items())
        ]

        def write_entries(position: int, value: Value, info: Mapping[str, Any]) -> None:
            for key, write in parts:
                write(position, value[key], info)

        return write_entries
    if path not in leaves:
        return lambda _position, _value, _info: None
    array = leaves[path]
    shape: tuple[int, ...] = space.shape or ()
    flat = isinstance(space, gymnasium.spaces.MultiDiscrete) and len(shape) > 1

    def write(position: int, value: Value, _info: Mapping[str, Any]) -> None:
        try:
            fits = value.shape == shape
        except AttributeError:
            value = np.asarray(value)
            fits = value.shape == shape
        if not fits:
            raise _wrong(path, value, shape)
        array[position] = value.ravel() if flat else value

    return write


def batch_writer(space: gymnasium.Space[Any], observed: Observed, copies: int) -> WriteAll:
    """A function that writes the observations and masks of all copies: `(observations, infos)`."""
    rest, mask_in_observation = spaces.without_mask(space)
    write = _batch_writer(rest, "", observed.leaves, copies)
    mask = observed.mask
    if mask is None:
        return write

    def write_masked(value: Value, info: Mapping[str, Any]) -> None:
        write(value, info)
        if mask_in_observation:
            mask[...] = np.asarray(value[MASK_KEY]).reshape(mask.shape)
        else:
            _write_masks(mask, info)

    return write_masked


def _batch_writer(
    space: gymnasium.Space[Any], path: str, leaves: Mapping[str, NDArray[Any]], copies: int
) -> WriteAll:
    if isinstance(space, gymnasium.spaces.Dict):
        parts = [
            (key, _batch_writer(entry, f"{path}/{key}" if path else key, leaves, copies))
            for key, entry in sorted(space.spaces.items())
        ]

        def write_entries(value: Value, info: Mapping[str, Any]) -> None:
            for key, write in parts:
                write(value[key], info)

        return write_entries
    if path not in leaves:
        return lambda _value, _info: None
    array = leaves[path]
    shape = (copies, *(space.shape or ()))
    flat = isinstance(space, gymnasium.spaces.MultiDiscrete) and len(shape) > 2

    def write(value: Value, _info: Mapping[str, Any]) -> None:
        try:
            fits = value.shape == shape
        except AttributeError:
            value = np.asarray(value)
            fits = value.shape == shape
        if not fits:
            raise _wrong(path, value, shape)
        array[...] = value.reshape(array.shape) if flat else value

    return write


def _wrong(path: str, value: NDArray[Any], shape: tuple[int, ...]) -> WrongObservationError:
    name = f"observation {path!r}" if path else "observation"
    return WrongObservationError(
        f"{name} has shape {value.shape}, its space says {shape}; mend the environment's step or "
        "reset"
    )


def _flat_mask(value: Value, width: int) -> NDArray[np.bool_] | bool:
    """A mask as bools `[width]`; everything is available where an environment says nothing."""
    if value is None:
        return True
    flat = flat_mask(value)
    if flat.shape != (width,):
        raise WrongObservationError(
            f"{MASK_KEY} has {flat.size} entries, the action space takes {width}"
        )
    return flat


def _write_masks(mask: NDArray[Any], info: Mapping[str, Any]) -> None:
    values = info.get(MASK_KEY)
    if values is None:
        mask[...] = True
        return
    told = info.get(f"_{MASK_KEY}")
    if isinstance(values, np.ndarray) and values.shape == mask.shape:
        mask[...] = values
        if told is not None:
            mask[~told] = True
        return
    for position in range(len(mask)):
        value = values[position] if told is None or told[position] else None
        mask[position] = _flat_mask(value, mask.shape[1])
