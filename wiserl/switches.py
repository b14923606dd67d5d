"""Flags that say yes or no, in every way that people write them.

`--x`, `--x true`, `--x=yes` and `--x False`, `--no-x`: for settings that are a bool, and for those
that may also be None and then suit themselves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from typing import TYPE_CHECKING, Any

from common.coercion import coerce
from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def spelled(instances: Iterable[Any], arguments: Sequence[str]) -> list[str]:
    """The arguments, with such flags of the dataclasses' as tyro takes them.

    That is `--x` or `--no-x` for a bool, and `--x True` or `--x False` where there may be None.
    What follows such a flag and is no such word is left to tyro.

    Raises:
        InvalidFieldError: `--x=` and a word that is neither yes nor no.
    """
    kinds = dict(kind for instance in instances for kind in _switches(instance))
    found: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, text = argument.partition("=")
        flag = name.replace("_", "-")
        negated = flag not in kinds and flag.startswith("--no-")
        if negated:
            flag = f"--{flag.removeprefix('--no-')}"
        if flag not in kinds:
            found.append(argument)
            continue
        if not equals and left and _is_word(left[0], kinds[flag]):
            equals, text = "=", left.pop(0)
        said = coerce(text, kinds[flag], flag) if equals else True
        said = said if said is None else said != negated
        if kinds[flag] is bool:
            found.append(flag if said else f"--no-{flag.removeprefix('--')}")
        else:
            found += [flag, str(said)]
    return found


def _switches(instance: Any) -> Iterable[tuple[str, Any]]:  # noqa: ANN401 - any dataclass's
    hints = typing.get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        kind = hints[field.name]
        if kind is bool or set(typing.get_args(kind)) == {bool, type(None)}:
            yield f"--{field.name.replace('_', '-')}", kind


def _is_word(text: str, kind: Any) -> bool:  # noqa: ANN401 - bool, or with None
    with contextlib.suppress(InvalidFieldError):
        coerce(text, kind, "")
        return True
    return False
