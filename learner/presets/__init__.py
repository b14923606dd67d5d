"""Presets: settings per algorithm and environment that are known to learn, a file an algorithm.

A file maps `default` and environment ids to layers of the one schema of learner.schema. The entry
of an environment lies above `default`.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

from common.errors import InvalidFieldError
from learner import schema

DEFAULT = "default"


def load(algorithm: str, environment: str) -> list[schema.Layer]:
    """The preset layers for an environment, the lower first; none for an algorithm without presets.

    Raises:
        InvalidFieldError: The file is no preset file.
    """
    entries = _entries(algorithm)
    return [
        schema.layer_of(entries[name], f"preset {algorithm}, {name}")
        for name in (DEFAULT, environment)
        if name in entries
    ]


def environments(algorithm: str) -> list[str]:
    """The environments that an algorithm has a preset for."""
    return [name for name in _entries(algorithm) if name != DEFAULT]


def _entries(algorithm: str) -> dict[str, Any]:
    # A name with a colon is a class of the user's own, which has no file here.
    if not algorithm.isidentifier():
        return {}
    file = resources.files(__name__) / f"{algorithm}.yaml"
    if not file.is_file():
        return {}
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise InvalidFieldError(f"preset {algorithm}", "is no mapping of environments to settings")
    return document


def algorithms() -> list[str]:
    """The algorithms that come with the project: each has a file here."""
    names = (entry.name for entry in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
