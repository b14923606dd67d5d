"""Code of a user's own, named `module:attribute` on the learner's command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from common.errors import InvalidFieldError


def is_reference(name: str) -> bool:
    """Whether a name means code of the user's own."""
    return ":" in name


def load(reference: str, field: str) -> Any:  # noqa: ANN401 - whatever the user's module holds
    """What a reference names. Modules are also looked for in the working directory.

    Raises:
        InvalidFieldError: There is no such module or attribute; the field is `field`.
    """
    module_name, _, path = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0] or str(Path.cwd()) in sys.path:
            raise _not_found(field, reference, error) from error
        sys.path.append(str(Path.cwd()))
        return load(reference, field)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise InvalidFieldError(field, f"{reference!r}: no {attribute!r} in {module_name}")
        found = getattr(found, attribute)
    return found


def _not_found(field: str, reference: str, error: ModuleNotFoundError) -> InvalidFieldError:
    return InvalidFieldError(
        field, f"{reference!r}: {error}; install it, or start in the folder that holds it"
    )
