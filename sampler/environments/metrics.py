"""Numbers that environments report in `info` at the end of an episode, such as `is_success`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MAX_METRICS = 32
"""More than this of an episode are left out: they are for curves, not for logs of everything."""

_BOOKKEEPING = frozenset({"TimeLimit.truncated", "final_obs", "final_info", "final_observation"})


def of_info(info: Mapping[str, Any]) -> dict[str, float]:
    """The finite plain numbers of one copy's `info`, by name."""
    found: dict[str, float] = {}
    for key, value in info.items():
        if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
            _add(found, key, float(value))
    return found


def of_agents(infos: Mapping[Any, Mapping[str, Any]]) -> dict[str, float]:
    """The finite plain numbers of all agents' infos, by name; the mean over those that have one."""
    found: dict[str, list[float]] = {}
    for info in infos.values():
        for key, value in of_info(info).items():
            found.setdefault(key, []).append(value)
    return {key: math.fsum(values) / len(values) for key, values in found.items()}


def of_vector_info(info: Mapping[str, Any], position: int) -> dict[str, float]:
    """The finite plain numbers that a vector environment's `info` has for one copy."""
    found: dict[str, float] = {}
    for key, values in info.items():
        if not isinstance(values, np.ndarray) or values.ndim != 1 or key.startswith("_"):
            continue
        told: NDArray[Any] | None = info.get(f"_{key}")
        if values.dtype.kind in "biuf" and (told is None or told[position]):
            _add(found, key, float(values[position]))
    return found


def _add(found: dict[str, float], key: str, value: float) -> None:
    if key not in _BOOKKEEPING and math.isfinite(value) and len(found) < MAX_METRICS:
        found[key] = value
