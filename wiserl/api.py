"""What `wiserl.train` does."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import WiseRLError
from learner import schema
from learner.config import RunConfig
from learner.observer import Observers
from learner.outcome import Status
from learner.run_folder import RunFolder
from wiserl import launch, resuming
from wiserl import runs as chosen_runs
from wiserl.local import LocalConfig
from wiserl.order import Order
from wiserl.runs import POLICY, SETTINGS
from wiserl.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import DataclassInstance

    from learner.observer import Observer
    from learner.outcome import Outcome

_ORIGIN = "wiserl.train"


def train(
    algorithm: str,
    *,
    given: Mapping[str, Any],
    runs: Path | str = "runs",
    config: Path | str | None = None,
    presets: Path | str | None = None,
    resume: Path | None = None,
    init_from: Path | str | None = None,
    callbacks: Sequence[Observer] = (),
) -> Outcome:
    """See `wiserl.train` and `wiserl.resume`.

    `WISERL_*` variables are for command lines and play no part.

    Raises:
        WiseRLError: A setting that cannot be, or a run that failed.
    """
    names = {"run": _names(RunConfig()), "local": _names(LocalConfig())}
    sections = {
        section: {name: value for name, value in given.items() if name in known}
        for section, known in names.items()
    }
    general = names["run"] | names["local"]
    rest = {name: value for name, value in given.items() if name not in general}
    settings = Settings.gather(
        algorithm,
        environment=given.get("env"),
        config=None if config is None else Path(config),
        own_presets=None if presets is None else Path(presets),
        variables={},
    ).above(schema.Layer(_ORIGIN, sections))

    def hyperparameters(cls: type[Any]) -> DataclassInstance:
        default: DataclassInstance = cls.Config()
        known = _names(default) | general
        for name in rest:
            if name not in known:
                raise schema.unknown(name, known, _ORIGIN, "setting")
        layer = schema.Layer(_ORIGIN, {"hyperparameters": rest})
        return settings.above(layer).applied(default, "hyperparameters")

    run = settings.applied(RunConfig(), "run")
    if resume is not None:
        resuming.check_same(resume, run)
    n_envs = rest.get("n_envs", settings.peek("hyperparameters", "n_envs"))
    observer = Observers(callbacks)
    order = Order(
        algorithm=algorithm,
        run=run,
        hyperparameters=hyperparameters,
        n_envs=n_envs if isinstance(n_envs, int) else None,
        runs=Path(runs),
        resume=resume,
        init_from=None if init_from is None else chosen_runs.meant(Path(init_from), POLICY),
        command=sys.argv,
        observer=observer,
    )
    try:
        outcome = launch.train_locally(order, settings.applied(LocalConfig(), "local"))
    finally:
        observer.close()
    if outcome.status == Status.FAILED:
        raise WiseRLError(outcome.complaint)
    return outcome


def resume(run: Path, *, callbacks: Sequence[Observer], given: Mapping[str, Any]) -> Outcome:
    """See `wiserl.resume`.

    Raises:
        WiseRLError: Not a run that can go on, a setting that cannot be, or a run that failed.
    """
    run = chosen_runs.meant(run, SETTINGS)
    algorithm = resuming.algorithm_of(run)
    config = RunFolder(run).config
    return train(algorithm, given=given, config=config, resume=run, callbacks=callbacks)


def _names(instance: DataclassInstance) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(instance))
