"""`wiserl presets`: for which environments algorithms are tuned, and what that reached here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path  # noqa: TC003 - flags are made from the types
from typing import TYPE_CHECKING, Annotated

import tyro

from common import references
from common.errors import InvalidFieldError
from learner import presets
from wiserl import known_presets, parsing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wiserl.known_presets import Preset


@dataclasses.dataclass(frozen=True)
class PresetsFlags:
    """Lists presets and what each reached here.

    That is the interquartile mean over seeds, of the mean greedy return of the final policy, with
    its 95 % interval. Of one algorithm it also shows the settings that differ from the defaults.
    `default` is what an environment without a preset of its own gets.
    """

    algorithm: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[ALGORITHM]")] = ""
    """Only this one: a name, or module:Class."""

    presets: Path | None = None
    """YAML file of presets of your own for that algorithm, as `wiserl train` takes it."""

    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON with the settings of each preset."""

    def __post_init__(self) -> None:
        """Refuses an algorithm that there is not."""
        known = presets.algorithms()
        if self.algorithm and not (
            self.algorithm in known or references.is_reference(self.algorithm)
        ):
            raise InvalidFieldError(
                "algorithm", f"{self.algorithm!r} is none of {', '.join(known)}, or module:Class"
            )
        if self.presets is not None and not self.algorithm:
            raise InvalidFieldError("presets", "are of one algorithm; name it before the flag")


FLAGS = PresetsFlags


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    parsed = parsing.one(PresetsFlags, arguments, program="wiserl presets")
    found = known_presets.find(parsed.algorithm or None, parsed.presets)
    if parsed.json:
        print(json.dumps([preset.to_json() for preset in found], indent=2))
    else:
        lines = _detailed(found) if parsed.algorithm else _listed(found)
        print("\n".join(lines))
    return 0


def _listed(found: Sequence[Preset]) -> Iterator[str]:
    width = max(len(preset.environment) for preset in found)
    yield f"{'algorithm':<10} {'environment':<{width}} {'steps':>10}  reached here"
    for preset in found:
        came_to = preset.reached or "-"
        yield (
            f"{preset.algorithm:<10} {preset.environment:<{width}} {preset.total_steps:>10,}  "
            f"{came_to}"
        )


def _detailed(found: Sequence[Preset]) -> Iterator[str]:
    for preset in found:
        yield f"{preset.environment}: {preset.reached or 'not run to its end here'}"
        for name, value in preset.settings().items():
            yield f"    {name}: {json.dumps(value)}"
