"""`wiserl plot`: the learning curve of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path  # noqa: TC003 - flags are made from the types
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class PlotFlags:
    """Draws return against environment steps from a run's tables, also while it still runs."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""

    output: Path | None = None
    """Where the picture goes, in the format of its ending; the folder's curve.png by default."""


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    parsed = tyro.cli(PlotFlags, prog="wiserl plot", args=list(arguments))
    from learner import plots
    from learner.run_folder import RunFolder

    print(plots.draw(RunFolder(parsed.run), parsed.output))
    return 0
