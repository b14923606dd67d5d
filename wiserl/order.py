"""An order: everything that a run to be made is made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learner.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import DataclassInstance

    from learner.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Order:
    """A run to be made.

    Attributes:
        algorithm: Its name.
        run: The run's settings.
        hyperparameters: Gives the algorithm's settings, once its class is there.
        n_envs: How many environments a round takes, where that is known before.
        runs: The folder of all runs.
        resume: The folder of a run to go on with, whose settings these are; None for a new run.
        init_from: The folder of a run whose parameters to begin with.
        command: What provenance says made it.
        observer: Who is told how it goes.
    """

    algorithm: str
    run: RunConfig
    hyperparameters: Callable[[type[Any]], DataclassInstance]
    n_envs: int | None = None
    runs: Path = Path("runs")
    resume: Path | None = None
    init_from: Path | None = None
    command: Sequence[str] = ()
    observer: Observer = dataclasses.field(default_factory=Observer)
