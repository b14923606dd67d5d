"""Curves of several runs: found in folders, grouped, and averaged with an interval."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml

from common.errors import WiseRLError
from learner import schema, tables
from learner.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Points = NDArray[np.float64]

RETURN = "rollout/ep_rew_mean"
"""What is drawn where nothing else is asked for: the mean return of the last 100 episodes."""

Against = Literal["steps", "time"]

_GRID = 400
"""Points of a mean: about as many as a picture has room for."""

_RESAMPLES = 2_000

_CONFIDENCE = 0.95

_INCIDENTAL = frozenset(
    {
        "seed",
        "device",
        "threads",
        "eval_points",
        "eval_episodes",
        "final_eval_episodes",
        "checkpoint_seconds",
        "checkpoints_kept",
    }
)
"""Settings in which runs of one group may differ."""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What a run's `config.yaml` says of it.

    Attributes:
        folder: The run's.
        algorithm: Its name.
        environment: The training environment's id.
        settings: Those of the run and of the algorithm by name.
        label: What a person calls the group that it is of, if anything.
    """

    folder: RunFolder
    algorithm: str
    environment: str
    settings: dict[str, Any]
    label: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in their seed alone, as far as a person wants to tell them apart.

    Attributes:
        environment: Theirs.
        name: What a legend calls them.
        runs: In the order in which they were found.
    """

    environment: str
    name: str
    runs: tuple[Run, ...]

    def differences(self) -> list[str]:
        """The settings that bear on learning, apart from the seed, and are not alike in all runs.

        The algorithm's own come first.
        """
        names = dict.fromkeys(name for run in self.runs for name in reversed(run.settings))
        return [
            name
            for name in names
            if name not in _INCIDENTAL
            and len({repr(run.settings.get(name)) for run in self.runs}) > 1
        ]


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values over environment steps or seconds.

    Attributes:
        x: [N], ascending.
        y: [N].
    """

    x: Points
    y: Points


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean of several curves where all of them have values.

    Attributes:
        x: [N].
        y: [N], the mean.
        low: [N], from where 95 % of the bootstrap means lie; `y` itself for a single curve.
        high: [N], up to where.
    """

    x: Points
    y: Points
    low: Points
    high: Points


def find(path: Path, label: str = "") -> list[Run]:
    """The run in a folder, or all those in the folders below it.

    Raises:
        WiseRLError: A `config.yaml` beside a `metrics.csv` is not a run's.
    """
    found = []
    for folder, below, names in os.walk(path):
        if {"config.yaml", "metrics.csv"} <= set(names):
            found.append(_read(RunFolder(Path(folder)), label))
            below.clear()  # what lies within a run is no other run
        below.sort()
    return found


def _read(folder: RunFolder, label: str) -> Run:
    try:
        document = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
        settings = {**document["run"], **document["hyperparameters"]}
        return Run(folder, document["algorithm"], settings["env"], settings, label)
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise WiseRLError(
            f"{folder.config} is not a run's: {type(error).__name__}: {error}"
        ) from None


def group(runs: Iterable[Run], by: Sequence[str] = ()) -> list[Group]:
    """Groups runs by environment, algorithm, label and the values of some settings.

    Args:
        runs: Of whatever environments and algorithms; one that is there twice counts once.
        by: Names of settings.

    Raises:
        InvalidFieldError: A setting that no run has.
    """
    distinct = {run.folder.path.resolve(): run for run in runs}
    for name in by:
        known = {each for run in distinct.values() for each in run.settings}
        if name not in known:
            raise schema.unknown(name, known, "by", "setting")
    found: dict[tuple[str, str, tuple[str, ...], str], list[Run]] = {}
    for run in distinct.values():
        values = tuple(f"{name}={run.settings.get(name)}" for name in by)
        found.setdefault((run.environment, run.label, values, run.algorithm), []).append(run)
    algorithms: dict[str, set[str]] = {}
    for _, label, _, algorithm in found:
        algorithms.setdefault(label, set()).add(algorithm)
    groups = []
    for (environment, label, values, algorithm), members in sorted(found.items()):
        is_told = label and len(algorithms[label]) == 1
        parts = [label] if is_told else [label, algorithm]
        name = ", ".join(part for part in (*parts, *values) if part)
        groups.append(Group(environment, name, tuple(members)))
    return groups


def curve(run: Run, metric: str = RETURN, against: Against = "steps") -> Curve | None:
    """A run's values of one metric; None where it has none yet.

    Args:
        run: The run.
        metric: A column of `metrics.csv`, or of `evaluations.csv` where it begins with `eval/`.
        against: What x is: environment steps, or seconds since the start of training.
    """
    is_evaluation = metric.startswith("eval/")
    y, steps = _columns(run.folder.evaluations if is_evaluation else run.folder.metrics, metric)
    if not len(y):
        return None
    x = steps
    if against == "time":
        # Evaluations are told when their policy was trained, not when they were played.
        seconds, at = _columns(run.folder.metrics, "time/time_elapsed")
        x = np.interp(steps, at, seconds, left=0.0) if len(at) else np.full_like(steps, np.nan)
    known = np.isfinite(x) & np.isfinite(y)
    order = np.argsort(x[known], kind="stable")
    return Curve(x[known][order], y[known][order]) if known.any() else None


def _columns(path: Path, name: str) -> tuple[Points, Points]:
    """A column and the environment steps beside it; empty where there is no such column."""
    table = tables.read(path) if path.is_file() else {}
    if name not in table:
        return np.empty(0), np.empty(0)
    y, steps = (
        np.array([float(text or "nan") for text in table[each]], np.float64)
        for each in (name, "global_step")
    )
    return y, steps


def metrics_of(run: Run) -> list[str]:
    """The names of what could be drawn of a run."""
    files = (run.folder.metrics, run.folder.evaluations)
    names = [name for path in files if path.is_file() for name in tables.read(path)]
    return [name for name in dict.fromkeys(names) if "/" in name]


def mean(curves: Sequence[Curve]) -> Mean | None:
    """The mean of curves, from where the last one begins to where the first one ends.

    Between its points a curve is taken as straight. The interval is a percentile bootstrap over the
    curves, drawn with a fixed seed: it never leaves the range of the curves, but with three or four
    of them it is rather too narrow (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264).

    Args:
        curves: At least one.

    Returns:
        The mean; None where the curves do not overlap.
    """
    first, last = max(each.x[0] for each in curves), min(each.x[-1] for each in curves)
    if first > last:
        return None
    if len(curves) == 1:
        (only,) = curves
        return Mean(only.x, only.y, only.y, only.y)
    x = np.linspace(first, last, _GRID)
    values = np.stack([np.interp(x, each.x, each.y) for each in curves])
    draws = np.random.default_rng(0).integers(len(curves), size=(_RESAMPLES, len(curves)))
    # How often each curve was drawn, times the values: the same as to gather and add them up.
    weights = np.stack([np.bincount(draw, minlength=len(curves)) for draw in draws]) / len(curves)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(weights @ values, [tail, 1 - tail], axis=0)
    return Mean(x, values.mean(axis=0), low, high)
