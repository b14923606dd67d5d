"""Options from environment variables: each field of a dataclass has one, named `WISERL_<FIELD>`."""

from __future__ import annotations

import dataclasses
import os
import typing
from typing import TYPE_CHECKING, Any, TypeVar

from common.coercion import coerce

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

PREFIX = "WISERL_"

T = TypeVar("T", bound="DataclassInstance")


def variable_of(field: str) -> str:
    """The variable of a field: `WISERL_ENVS_PER_WORKER` for `envs_per_worker`."""
    return PREFIX + field.upper()


def from_environment(options: type[T], environment: Mapping[str, str] | None = None) -> T:
    """The options with every field whose variable is set and not empty; defaults for the others.

    Args:
        options: A dataclass all of whose fields have defaults.
        environment: The variables; those of the process by default.

    Raises:
        InvalidFieldError: A variable whose text is no value of its field.
    """
    return options(**values_of(options, os.environ if environment is None else environment))


def values_of(options: type[DataclassInstance], variables: Mapping[str, str]) -> dict[str, Any]:
    """The values of the fields whose variables are set and not empty.

    Raises:
        InvalidFieldError: A variable whose text is no value of its field.
    """
    hints = typing.get_type_hints(options)
    return {
        field.name: coerce(variables[variable], hints[field.name], variable)
        for field in dataclasses.fields(options)
        if variables.get(variable := variable_of(field.name))
    }
