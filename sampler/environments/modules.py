"""Environments and wrappers out of modules that the sampler's own command line allows.

The sampler's own wrappers and games are allowed always.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from common import references
from common.errors import InvalidFieldError, WiseRLError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

OWN = frozenset({"sampler.environments.atari", "sampler.environments.matrix_games"})


class EnvironmentRefusedError(WiseRLError):
    """A reference that this sampler does not build; trying again does not help."""


def load(name: str, allowed: Collection[str]) -> Any:  # noqa: ANN401 - whatever is there
    """What `module:attribute` names.

    Args:
        name: The reference.
        allowed: Modules that it may name, each with its submodules.

    Raises:
        EnvironmentRefusedError: The module is not allowed, or there is no such thing.
    """
    module = references.module_of(name)
    allowed = {*allowed, *OWN}
    if not any(module == known or module.startswith(f"{known}.") for known in allowed):
        raise EnvironmentRefusedError(
            f"{name}: the module {module} is not allowed here; say --allow-module {module} if you "
            "trust it"
        )
    with _refusing():
        return references.load(name, "")


def call(
    function: object,
    arguments: Sequence[object],
    keywords: Mapping[str, object],
    *,
    name: str,
    given: str,
) -> object:
    """What a factory or a wrapper returns.

    Args:
        function: What `load` gave.
        arguments: What it is called with.
        keywords: The same by name.
        name: Its reference.
        given: What it is called with, for the error.

    Raises:
        EnvironmentRefusedError: It cannot be called like this.
    """
    with _refusing():
        return references.call(function, arguments, keywords, reference=name, field="", given=given)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turns what is wrong with a user's own code into a refusal."""
    try:
        yield
    except InvalidFieldError as error:
        raise EnvironmentRefusedError(str(error)) from error
