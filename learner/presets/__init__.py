"""Presets: settings per algorithm and environment that are known to learn, a file an algorithm.

A file maps `default` and environment ids to layers of the one schema of learner.schema. The entry
of an environment lies above `default`.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import InvalidFieldError
from learner import schema

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

DEFAULT = "default"


def load(algorithm: str, environment: str, own: Path | None = None) -> list[schema.Layer]:
    """The preset layers for an environment, the lower first; none for an algorithm without presets.

    Args:
        algorithm: Its name.
        environment: Its id.
        own: A file of the user's own, whose layers lie above those that come with the project.

    Raises:
        InvalidFieldError: A file is no preset file.
    """
    return [
        schema.layer_of(entries[name], f"{origin}, {name}")
        for origin, entries in (
            (f"preset {algorithm}", _of_project(algorithm)),
            (str(own), {} if own is None else _entries(own, str(own))),
        )
        for name in (DEFAULT, environment)
        if name in entries
    ]


def environments(algorithm: str, own: Path | None = None) -> list[str]:
    """The environments that there are presets for, those of the user's own file last."""
    files = _of_project(algorithm), {} if own is None else _entries(own, str(own))
    names = dict.fromkeys(name for file in files for name in file)
    return [name for name in names if name != DEFAULT]


def algorithms() -> list[str]:
    """The algorithms that come with the project: each has a file here."""
    names = (entry.name for entry in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _of_project(algorithm: str) -> dict[str, Any]:
    # A name with a colon is a class of the user's own, which has no file here.
    if not algorithm.isidentifier():
        return {}
    file = resources.files(__name__) / f"{algorithm}.yaml"
    return _entries(file, f"preset {algorithm}") if file.is_file() else {}


def _entries(file: Path | Traversable, origin: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFieldError(origin, f"cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InvalidFieldError(origin, f"is no YAML: {error}") from None
    if not isinstance(document, dict):
        raise InvalidFieldError(origin, "is no mapping of environments to settings")
    return document
