"""The settings of a run from everywhere they can stand: presets, a file, variables, flags.

Later ones lie above earlier ones: the dataclasses' defaults, the preset of the algorithm, that of
the environment, `--config FILE.yaml`, `WISERL_*` variables, flags. Nothing here imports torch: what
the algorithm's own settings are is known only once its class is there.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from common.errors import InvalidFieldError
from common.variables import values_of, variable_of
from learner import presets, schema
from learner.schema import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

    D = TypeVar("D", bound=DataclassInstance)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The layers of a run's settings, without its flags.

    Attributes:
        algorithm: Its name.
        layers: The lower ones first.
        variables: Environment variables, which lie above them.
    """

    algorithm: str
    layers: tuple[Layer, ...]
    variables: Mapping[str, str]

    @classmethod
    def gather(
        cls,
        algorithm: str,
        *,
        environment: str | None = None,
        config: Path | None = None,
        own_presets: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Settings:
        """Finds the layers.

        Args:
            algorithm: Its name.
            environment: The environment, where a flag says it; else variables or the file do.
            config: A settings file.
            own_presets: A file of presets of the user's own.
            variables: Those of the process by default.

        Raises:
            InvalidFieldError: A file that cannot be read, or is for another algorithm.
        """
        variables = os.environ if variables is None else variables
        if config is None and variables.get("WISERL_CONFIG"):
            config = Path(variables["WISERL_CONFIG"])
        if own_presets is None and variables.get("WISERL_PRESETS"):
            own_presets = Path(variables["WISERL_PRESETS"])
        above = [] if config is None else [_of_algorithm(schema.read(config), algorithm)]
        named = [layer.section("run")["env"] for layer in above if "env" in layer.section("run")]
        environment = environment or variables.get("WISERL_ENV") or (named[-1] if named else "")
        below = presets.load(algorithm, environment, own_presets)
        return cls(algorithm, (*below, *above), variables)

    def above(self, layer: Layer) -> Settings:
        """The same with one more layer on top of the others."""
        return dataclasses.replace(self, layers=(*self.layers, layer))

    def applied(self, instance: D, section: str) -> D:
        """`instance` with what the layers and the variables say of its section.

        Raises:
            InvalidFieldError: An unknown setting, or a value that cannot be.
        """
        told = values_of(type(instance), self.variables)
        layers = (*self.layers, Layer("WISERL_* variables", {section: told}))
        return schema.apply(instance, section, layers)

    def peek(self, section: str, name: str) -> Any:  # noqa: ANN401 - any setting
        """The raw value of one setting, unchecked; None where nobody sets it."""
        if text := self.variables.get(variable_of(name)):
            return text
        values = [layer.section(section).get(name) for layer in self.layers]
        return next((value for value in reversed(values) if value is not None), None)


def key_values(texts: tuple[str, ...], flag: str) -> dict[str, Any]:
    """`KEY=VALUE` texts as a mapping; values are read as YAML: `true`, `3`, `0.5`, `[1, 2]`, text.

    Raises:
        InvalidFieldError: A text without `=` or with an empty key.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InvalidFieldError(flag, f"{text!r} is no KEY=VALUE")
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:  # noqa: ANN401 - bool, number, text or list
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str) and value == text:
        try:
            return float(text)  # YAML 1.1 reads 1e-3 as text
        except ValueError:
            return text
    return value if isinstance(value, bool | int | float | str | list) else text


def _of_algorithm(layer: Layer, algorithm: str) -> Layer:
    if layer.algorithm not in {None, algorithm}:
        raise InvalidFieldError(
            layer.origin, f"is for {layer.algorithm}, but the algorithm named is {algorithm}"
        )
    return layer
