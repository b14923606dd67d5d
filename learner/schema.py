"""Settings from files and environment variables: layers over a dataclass, checked by its types.

Every layer (a preset, a `--config` file, the `config.yaml` of a run folder, `WISERL_*` variables)
has the one schema: sections of settings, each the fields of a dataclass. A key that the dataclass
lacks is refused with the nearest that it has.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from common.coercion import coerce
from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from _typeshed import DataclassInstance

    D = TypeVar("D", bound=DataclassInstance)

SECTIONS = ("run", "local", "hyperparameters")
"""`run`: RunConfig. `local`: samplers of this machine. `hyperparameters`: the algorithm's own."""


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
