"""Values from files and environment variables as the types that fields of a dataclass have."""

from __future__ import annotations

import contextlib
import json
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Callable

_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


def coerce(value: object, annotation: Any, field: str) -> Any:  # noqa: ANN401 - any dataclass's field
    """`value`, from YAML or as text, as the type that a field's annotation names.

    As text numbers may be written as YAML would not read them (`1e-3`), counts as `1e5`, sequences
    with commas or spaces between their items, mappings as JSON, and nothing as `none`.

    Raises:
        InvalidFieldError: The value is of another type.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        return _any_of(value, arguments, field)
    if origin is typing.Literal:
        return _one_of(value, {str(choice): choice for choice in arguments}, field)
    if origin in {tuple, list}:
        return origin(_items(value, arguments, field))
    if origin is dict:
        return _mapping(value, field)
    return _scalar(value, annotation, field)


def _any_of(value: object, arms: tuple[Any, ...], field: str) -> Any:  # noqa: ANN401
    if value is None or str(value).lower() in {"none", "null"}:
        if type(None) in arms:
            return None
        raise InvalidFieldError(field, "needs a value")
    errors = []
    for arm in arms:
        if arm is type(None):
            continue
        try:
            return coerce(value, arm, field)
        except InvalidFieldError as error:
            errors.append(error.description)
    raise InvalidFieldError(field, "; ".join(errors))


def _one_of(value: object, choices: dict[str, Any], field: str) -> Any:  # noqa: ANN401
    if str(value) not in choices:
        raise InvalidFieldError(field, f"{value!r} is none of {', '.join(choices)}")
    return choices[str(value)]


def _items(value: object, arguments: tuple[Any, ...], field: str) -> list[Any]:
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, list | tuple):
        value = [value]
    variadic = len(arguments) == 1 or arguments[1] is Ellipsis
    kinds = arguments[:1] * len(value) if variadic else arguments
    if len(kinds) != len(value):
        raise InvalidFieldError(field, f"{value!r} has not {len(kinds)} entries")
    return [coerce(item, kind, field) for item, kind in zip(value, kinds, strict=True)]


def _mapping(value: object, field: str) -> dict[str, Any]:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidFieldError(field, f"{value!r} is no mapping from names to values")
    return dict(value)


def _scalar(value: object, kind: type, field: str) -> Any:  # noqa: ANN401
    if kind not in _READERS:
        raise InvalidFieldError(field, f"a {kind} cannot be set by a file or a variable")
    read, complaint = _READERS[kind]
    try:
        return read(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise InvalidFieldError(field, f"{value!r} is {complaint}") from None


def _bool(value: object) -> bool:
    return value if isinstance(value, bool) else _WORDS[str(value).lower()]


def _number(value: object) -> float:
    if isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - told from other values here only
    return float(value)  # type: ignore[arg-type] # whatever is no number raises


def _integer(value: object) -> int:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)
    number = _number(value)
    if not number.is_integer():
        raise ValueError
    return value if isinstance(value, int) else int(number)


def _text(value: object) -> str:
    if value is None or isinstance(value, dict | list):
        raise ValueError
    return str(value)


def _path(value: object) -> Path:
    return Path(_text(value))


_READERS: dict[type, tuple[Callable[[object], Any], str]] = {
    bool: (_bool, "neither true nor false"),
    int: (_integer, "no integer"),
    float: (_number, "no number"),
    str: (_text, "no text"),
    Path: (_path, "no path"),
}
