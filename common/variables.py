"""Options from environment variables: each field of a dataclass has one, named `WISERL_<FIELD>`."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from typing import TYPE_CHECKING, Literal, TypeVar

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

PREFIX = "WISERL_"

T = TypeVar("T", bound="DataclassInstance")

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def variable_of(field: str) -> str:
    """The variable of a field: `WISERL_ENVS_PER_WORKER` for `envs_per_worker`."""
    return PREFIX + field.upper()


def from_environment(options: type[T], environment: Mapping[str, str] | None = None) -> T:
    """The options with every field whose variable is set and not empty; defaults for the others.

    Fields are strings, integers, floats, bools, literals of strings, optionals of these, or tuples
    of strings (separated by commas).

    Args:
        options: A dataclass all of whose fields have defaults.
        environment: The variables; those of the process by default.

    Raises:
        InvalidFieldError: A variable whose text is no value of its field.
    """
    variables = os.environ if environment is None else environment
    hints = typing.get_type_hints(options)
    values = {
        field.name: _value(variables[variable], hints[field.name], variable)
        for field in dataclasses.fields(options)
        if variables.get(variable := variable_of(field.name))
    }
    return options(**values)


def _value(text: str, hint: object, variable: str) -> object:
    kind = _without_none(hint)
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if typing.get_origin(kind) is Literal:
        return _choice(text, typing.get_args(kind), variable)
    if kind is bool:
        return _bool(text, variable)
    if kind is str:
        return text
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        name = "integer" if kind is int else "number"
        raise InvalidFieldError(variable, f"{text!r} is no {name}") from None


def _without_none(hint: object) -> object:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _choice(text: str, choices: tuple[str, ...], variable: str) -> str:
    if text not in choices:
        raise InvalidFieldError(variable, f"{text!r} is none of {', '.join(choices)}")
    return text


def _bool(text: str, variable: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise InvalidFieldError(variable, f"{text!r} is neither true nor false")
