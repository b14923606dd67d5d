"""A user's own observers, named on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import references
from common.errors import InvalidFieldError
from learner.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Iterable


def make(names: Iterable[str]) -> list[Observer]:
    """An observer for each `module:Class`; modules are also looked for in the working directory.

    Instead of a class it may be any function without arguments that answers an Observer.

    Raises:
        InvalidFieldError: There is no such class, or what it makes is no Observer.
    """
    return [_make(name) for name in names]


def _make(name: str) -> Observer:
    if not references.is_reference(name):
        raise InvalidFieldError("callback", f"{name!r} is no module:Class")
    made = references.call(
        references.load(name, "callback"), (), {}, reference=name, field="callback", given="nothing"
    )
    if not isinstance(made, Observer):
        raise InvalidFieldError(
            "callback", f"{name!r} makes a {type(made).__name__}; subclass wiserl.Observer"
        )
    return made
