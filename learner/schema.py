"""Settings from files and environment variables: layers over a dataclass, checked by its types.

Every layer (a preset, a `--config` file, the `config.yaml` of a run folder, `WISERL_*` variables)
has the one schema: sections of settings, each the fields of a dataclass. A key that the dataclass
lacks is refused with the nearest that it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from _typeshed import DataclassInstance

    D = TypeVar("D", bound=DataclassInstance)

SECTIONS = ("run", "local", "hyperparameters")
"""`run`: RunConfig. `local`: samplers of this machine. `hyperparameters`: the algorithm's own."""

_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


@dataclasses.dataclass(frozen=True)
class Layer:
    """Settings of one origin.

    Attributes:
        origin: Where they are from, for people.
        sections: Settings by section and name.
        algorithm: The algorithm that they are for, where the origin says so.
    """

    origin: str
    sections: Mapping[str, Mapping[str, Any]]
    algorithm: str | None = None

    def section(self, name: str) -> Mapping[str, Any]:
        """The settings of a section, empty where the layer has none."""
        return self.sections.get(name, {})


def layer_of(document: object, origin: str) -> Layer:
    """The layer that a parsed YAML document is.

    Raises:
        InvalidFieldError: No mapping of known sections to mappings.
    """
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise InvalidFieldError(origin, f"holds a {type(document).__name__}, not a mapping")
    rest = dict(document)
    algorithm = rest.pop("algorithm", None)
    for name, section in rest.items():
        if name not in SECTIONS:
            raise unknown(name, (*SECTIONS, "algorithm"), origin, "section")
        if not isinstance(section, dict):
            raise InvalidFieldError(f"{origin}: {name}", "is no mapping of settings to values")
    return Layer(origin, rest, algorithm)


def read(path: Path) -> Layer:
    """The layer in a YAML file.

    Raises:
        InvalidFieldError: The file cannot be read or is no such layer.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFieldError(str(path), f"cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InvalidFieldError(str(path), f"is no YAML: {error}") from None
    return layer_of(document, str(path))


def apply(instance: D, section: str, layers: Iterable[Layer]) -> D:
    """`instance` with the settings of `section` of each layer, later layers above earlier ones.

    Raises:
        InvalidFieldError: An unknown setting, a value of another type, or one that the dataclass
        refuses.
    """
    annotations = typing.get_type_hints(type(instance))
    names = [field.name for field in dataclasses.fields(instance)]
    changes: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.section(section).items():
            if name not in names:
                raise unknown(name, names, layer.origin, "setting")
            changes[name] = coerce(value, annotations[name], f"{layer.origin}: {name}")
    return dataclasses.replace(instance, **changes)


def unknown(name: object, known: Iterable[str], origin: str, kind: str) -> InvalidFieldError:
    """The error for a name that is not there, with the nearest that is."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
    hint = f"; did you mean {near[0]}?" if near else ""
    return InvalidFieldError(origin, f"there is no {kind} {name}{hint}")


def coerce(value: object, annotation: Any, field: str) -> Any:  # noqa: ANN401 - any dataclass's field
    """`value`, from YAML or as text, as the type that a field's annotation names.

    Numbers may be written as text (YAML reads `1e-3` as a string) and counts as `1e5`.

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
        value = yaml.safe_load(value)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidFieldError(field, f"{value!r} is no mapping from names to values")
    return dict(value)


def _scalar(value: object, kind: type, field: str) -> Any:  # noqa: ANN401
    if kind not in _READERS:
        raise InvalidFieldError(field, f"a {kind} cannot be set by a file or a variable")
    try:
        return _READERS[kind](value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise InvalidFieldError(field, f"{value!r} is no {kind.__name__}") from None


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


_READERS: dict[type, Callable[[object], Any]] = {
    bool: _bool,
    int: _integer,
    float: _number,
    str: _text,
    Path: lambda value: Path(_text(value)),
}
