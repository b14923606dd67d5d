"""Code of a user's own, named `module:attribute` on a command line."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType


def is_reference(name: str) -> bool:
    """Whether a name means code of the user's own."""
    return ":" in name


def module_of(reference: str) -> str:
    """The module that a reference names."""
    return reference.partition(":")[0]


def load(reference: str, field: str) -> Any:  # noqa: ANN401 - whatever the user's module holds
    """What a reference names. Modules are also looked for in the working directory.

    Raises:
        InvalidFieldError: There is no such module or attribute; the field is `field`.
    """
    module_name, _, path = reference.partition(":")
    found: Any = _imported(module_name, reference, field)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            near = difflib.get_close_matches(attribute, dir(found), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidFieldError(
                field, f"{reference!r}: no {attribute!r} in {module_name}{hint}"
            )
        found = getattr(found, attribute)
    return found


def call(
    function: Any,  # noqa: ANN401 - whatever a reference names
    arguments: Sequence[object],
    keywords: Mapping[str, object],
    *,
    reference: str,
    field: str,
    given: str,
) -> Any:  # noqa: ANN401 - whatever it answers
    """What a function of the user's own answers.

    Args:
        function: What `load` gave.
        arguments: What it is called with.
        keywords: The same by name.
        reference: Its name, for the error.
        field: The field of the error.
        given: What it is called with, for the error.

    Raises:
        InvalidFieldError: It cannot be called like this.
    """
    if not callable(function):
        raise InvalidFieldError(
            field, f"{reference!r} is a {type(function).__name__}; name a function or a class"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some functions in C it cannot be told
        return function(*arguments, **keywords)
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        raise InvalidFieldError(
            field, f"{reference!r} takes {signature}, but is called with {given}: {error}"
        ) from None
    return function(*arguments, **keywords)


def _imported(module: str, reference: str, field: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] or str(Path.cwd()) in sys.path:
            raise InvalidFieldError(
                field,
                f"{reference!r}: {error}; start in the folder that holds it, put that folder on "
                "PYTHONPATH, or install it",
            ) from error
        sys.path.append(str(Path.cwd()))
        return _imported(module, reference, field)
