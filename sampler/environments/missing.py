"""What is said of an environment that is not here: what is near its name, and what would bring it.

Gymnasium, PettingZoo and the packages that register ids each say something else, or nothing.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from typing import TYPE_CHECKING

import gymnasium

from sampler.environments.modules import EnvironmentRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

EXTRAS = {
    "ALE": "atari",
    "MinAtar": "bench",
    "mpe2": "marl",
    "pettingzoo": "marl",
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.classic_control": "sampler",
    "gymnasium.envs.mujoco": "mujoco",
}
"""Extras of this project by what they bring: a namespace of ids, a package, a place in one."""

_VERSIONED = re.compile(r"[a-z0-9_]+_v\d+")


def install(what: str) -> str:
    """The command that brings an entry of `EXTRAS`."""
    return f"pip install 'wiserl[{EXTRAS[what]}]'"


def unknown_id(name: str) -> EnvironmentRefusedError:
    """Of an id `Name-vN` or `namespace/Name-vN` that Gymnasium does not have."""
    namespace, slash, _ = name.rpartition("/")
    if slash and not any(known.startswith(f"{namespace}/") for known in gymnasium.registry):
        remedy = install(namespace) if namespace in EXTRAS else "install the one that does"
        return EnvironmentRefusedError(
            f"{name}: no package that is installed here brings environments of {namespace}; "
            f"{remedy}, or name the module that registers them, module:{name}"
        )
    near = nearest_id(name) or f"; if a module registers it, write module:{name}"
    return EnvironmentRefusedError(f"{name}: there is no such environment{near}")


def nearest_id(name: str) -> str:
    """`; there is ...` with other versions of an id, else with what is nearest; empty for none."""
    base = name.rpartition("-v")[0] or name
    versions = [known for known in gymnasium.registry if known.rpartition("-v")[0] == base]
    return f"; there is {' and '.join(versions)}" if versions else nearest(name, gymnasium.registry)


def unknown_of_package(name: str, package: str, places: Iterable[str]) -> EnvironmentRefusedError:
    """Of an id `package/name_vN` that the package does not have at any of its places."""
    found = [
        module.name
        for place in places
        for module in pkgutil.iter_modules(importlib.import_module(place).__path__)
        if _VERSIONED.fullmatch(module.name)
    ]
    near = nearest(name, [f"{package}/{one}" for one in found])
    return EnvironmentRefusedError(f"{name}: {package} has no such environment{near}")


def of_package(name: str, place: str, error: ImportError) -> EnvironmentRefusedError:
    """Of an environment of a package, at a place in it, that needs what is not installed here."""
    package, dot, family = place.partition(".")
    remedy = f"; pip install '{package}[{family}]' brings what it needs" if dot else ""
    return EnvironmentRefusedError(f"{name}: {error}{remedy}")


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with what is nearest, whatever the case; empty where nothing is."""
    by_lower = {one.lower(): one for one in known}
    found = [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def dependency(name: str, entry_point: object, error: Exception) -> EnvironmentRefusedError:
    """Of an environment that is registered, but cannot be made.

    Args:
        name: Its id.
        entry_point: What Gymnasium makes it by.
        error: What went wrong.
    """
    is_missing = isinstance(error, ImportError | gymnasium.error.DependencyNotInstalled)
    place = next((one for one in EXTRAS if str(entry_point).startswith(f"{one}.")), None)
    if not is_missing or place is None:
        return EnvironmentRefusedError(f"{name}: {error}")
    return EnvironmentRefusedError(f"{name}: its package is not installed here; {install(place)}")
