"""What may change when a run goes on, and what may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import InvalidFieldError, WiseRLError
from learner import schema
from learner.config import RunConfig
from learner.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

_FIXED = ("env", "env_args", "wrapper", "seed")
"""Settings that make a run what it is: with others it would be another run."""


def algorithm_of(run: Path) -> str:
    """The algorithm of a run.

    Raises:
        InvalidFieldError: The folder's settings cannot be read.
        WiseRLError: It has none, or they do not name an algorithm.
    """
    config = config_of(run)
    algorithm = schema.read(config).algorithm
    if not algorithm:
        raise WiseRLError(f"{config} names no algorithm; name the folder of a run")
    return algorithm


def config_of(run: Path) -> Path:
    """The file of a run's settings.

    Raises:
        WiseRLError: It is no run's folder, or that of one that never began.
    """
    folder = RunFolder(run)
    if folder.config.exists():
        return folder.config
    if folder.identity.exists():
        raise WiseRLError(
            f"{run} cannot be resumed: its process ended in its first seconds, before it wrote its "
            f"settings ({folder.config.name}) and trained anything; remove the folder, and name "
            "the algorithm and the environment to start a new run"
        )
    raise WiseRLError(
        f"{run} is no run that can be resumed: it has no {folder.config.name}; name the folder of "
        "a run, such as runs/CartPole-v1/ppo/<time>-s0, or start a new one"
    )


def unfinished(runs: Path, algorithm: str, now: RunConfig) -> Path | None:
    """The newest run of these settings that did not come to its end; None where there is none.

    One whose samplers do not know of its end has not come to it.

    Args:
        runs: The folder of all runs.
        algorithm: Its name.
        now: The settings; what may not change when a run goes on must be the same.
    """
    for config in sorted(runs.glob("*/*/*/config.yaml"), key=_age, reverse=True):
        folder = RunFolder(config.parent)
        is_over = folder.is_finished and not folder.owes_farewells
        if is_over or not folder.header.exists():
            continue
        try:
            if algorithm_of(folder.path) == algorithm:
                check_same(folder.path, now)
                return folder.path
        except WiseRLError:
            continue  # another run, or one that nobody can go on with
    return None


def _age(path: Path) -> float:
    return path.stat().st_mtime


def check_same(run: Path, now: RunConfig) -> None:
    """That settings are still those of this run.

    Raises:
        InvalidFieldError: One was changed that may not be.
    """
    before = _settings_of(run)
    for name in _FIXED:
        was, wanted = getattr(before, name), getattr(now, name)
        if was != wanted:
            raise InvalidFieldError(
                name,
                f"{wanted!r} is not that of the run to resume, {was!r}; leave it out, or start a "
                "new run with --init-from",
            )


def has_more_to_do(run: Path, now: RunConfig) -> bool:
    """Whether settings ask for more steps than those that the run finished with."""
    return now.total_steps > _settings_of(run).total_steps


def _settings_of(run: Path) -> RunConfig:
    return schema.apply(RunConfig(), "run", [schema.read(RunFolder(run).config)])
