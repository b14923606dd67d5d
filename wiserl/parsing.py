"""Command lines to dataclasses: those of a run, in sections, and those of a verb, which has one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from common.coercion import coerce
from common.errors import InvalidFieldError
from wiserl import help_texts, switches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

_NUMBERS = tyro.constructors.ConstructorRegistry()
"""How flags read numbers: counts also as `1e6`, as files and variables do."""


@_NUMBERS.primitive_rule
def _count(
    kind: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[int] | None:
    if kind.type is not int:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda texts: _integer(texts[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


def _integer(text: str) -> int:
    try:
        return int(coerce(text, int, ""))
    except InvalidFieldError as error:
        raise ValueError(error.description) from None


def one(kind: type[T], arguments: Sequence[str], *, program: str, default: T | None = None) -> T:
    """The flags of one dataclass.

    Args:
        kind: The dataclass, whose docstring is what help says.
        arguments: The command line after the program.
        program: What help calls it.
        default: An instance with the defaults; None for the dataclass's own.

    Raises:
        SystemExit: `--help`, a flag that does not exist, or a value that its type cannot have.
        InvalidFieldError: A value that cannot be.
    """
    if help_texts.HELP & set(arguments):
        help_texts.as_paragraphs(kind)
    given: dict[str, Any] = {} if default is None else {"default": default}
    with _NUMBERS:
        parsed: T = tyro.cli(kind, prog=program, args=list(arguments), **given)
    return parsed


def parse(
    sections: Mapping[str, Any],
    arguments: Sequence[str],
    *,
    program: str,
    description: str,
    allow_unknown: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """Takes the flags of several dataclasses from one command line.

    Args:
        sections: Instances with the defaults, by name.
        arguments: The command line after the program.
        program: What help calls it.
        description: What help says about it.
        allow_unknown: Hand back what is no flag of theirs, instead of ending with an error.

    Returns:
        The sections with the flags' values, and what is no flag of theirs.

    Raises:
        SystemExit: `--help`, a flag that does not exist, or a value that its type cannot have.
        InvalidFieldError: A value that cannot be, or two sections share a name.
    """
    if help_texts.HELP & set(arguments):
        for instance in sections.values():
            help_texts.as_paragraphs(type(instance))
    description = help_texts.wrapped(description)
    flags = combined(sections)
    spelled = switches.spelled(sections.values(), arguments)
    parsed: Any
    with _NUMBERS:
        parsed, unknown = tyro.cli(
            flags,
            prog=program,
            description=description,
            args=spelled,
            return_unknown_args=True,
        )
        if unknown and not allow_unknown:
            # Again without leniency, which ends with what is nearest to the unknown.
            tyro.cli(flags, prog=program, description=description, args=spelled)
    return {name: getattr(parsed, _heading(name)) for name in sections}, unknown


def combined(sections: Mapping[str, Any]) -> type[Any]:
    """A dataclass of several instances by name, whose flags bear none of the names.

    Raises:
        InvalidFieldError: Two sections share the name of a setting.
    """
    _refuse_shared_names(sections)
    return dataclasses.make_dataclass(
        "Flags",
        [
            (
                _heading(name),
                tyro.conf.OmitArgPrefixes[type(default)],  # type: ignore[misc]
                dataclasses.field(default=default),
            )
            for name, default in sections.items()
        ],
        frozen=True,
    )


def _heading(section: str) -> str:
    """What help puts before the word `options`."""
    return {"hyperparameters": "hyperparameter", "local": "sampler", "serve": "server"}.get(
        section, section
    )


def _refuse_shared_names(sections: Mapping[str, Any]) -> None:
    owners: dict[str, str] = {}
    for section, instance in sections.items():
        for field in dataclasses.fields(instance):
            if field.name in owners:
                raise InvalidFieldError(
                    f"{section}.{field.name}",
                    f"is also the name of a setting of {owners[field.name]}; rename it",
                )
            owners[field.name] = section
