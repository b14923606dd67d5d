"""Distributed reinforcement learning as explicit gRPC services.

    outcome = wiserl.train("ppo", env="CartPole-v1")
    agent = wiserl.load(outcome.folder)
    action = agent.act(observation)

To be told how a run goes, subclass `Observer` and pass an instance as one of `callbacks`.

Importing this package imports neither torch nor an environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from learner.observer import Observer, StopTraining
    from learner.outcome import Outcome
    from wiserl.agent import Agent

__all__ = ["Observer", "StopTraining", "load", "resume", "train"]

_OF_THE_LEARNER = frozenset({"Observer", "StopTraining"})


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the module's names
    """Imports what is the learner's when it is asked for: a sampler's command needs none of it."""
    if name not in _OF_THE_LEARNER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from learner import observer

    return getattr(observer, name)


def train(
    algorithm: str,
    *,
    env: str,
    runs: Path | str = "runs",
    config: Path | str | None = None,
    presets: Path | str | None = None,
    init_from: Path | str | None = None,
    callbacks: Sequence[Observer] = (),
    **settings: Any,  # noqa: ANN401 - any setting
) -> Outcome:
    """Trains on this machine, as `wiserl train` does, and returns when it is over.

    Args:
        algorithm: A name such as `ppo`, or `module:Class`.
        env: A Gymnasium id, or `module:factory`.
        runs: The folder of all runs.
        config: A YAML file of settings.
        presets: A YAML file of presets of your own.
        init_from: The folder of a run whose parameters to begin with, or one above it for the
            newest run there.
        callbacks: Are told how it goes; nothing is printed. One may raise StopTraining.
        **settings: Any other setting of the run (`total_steps`), of the samplers (`samplers`,
            `workers`, `in_process`) or of the algorithm (`learning_rate`), by its name.

    Returns:
        How it went, and where its folder is.

    Raises:
        WiseRLError: A setting that cannot be, or a run that failed.
    """
    from wiserl import api

    return api.train(
        algorithm,
        given={"env": env, **settings},
        runs=runs,
        config=config,
        presets=presets,
        init_from=init_from,
        callbacks=callbacks,
    )


def resume(
    run: Path | str,
    *,
    callbacks: Sequence[Observer] = (),
    **settings: Any,  # noqa: ANN401 - any setting
) -> Outcome:
    """Goes on with a run from its last checkpoint, under its id and settings, in its folder.

    Args:
        run: The run's folder, or one above it for the newest run there.
        callbacks: As for `train`.
        **settings: What is to change, such as a larger `total_steps` for a run that has finished.

    Returns:
        How it went, over all of the run's processes.

    Raises:
        WiseRLError: Not a run that can go on, a setting that cannot be, or a run that failed.
    """
    from pathlib import Path

    from wiserl import api

    return api.resume(Path(run), callbacks=callbacks, given=settings)


def load(run: Path | str) -> Agent:
    """The policy that a run has saved last, ready to act.

    Args:
        run: The run's folder, or one above it for the newest run there.

    Raises:
        WiseRLError: There is no policy.
    """
    from wiserl import agent

    return agent.load(run)
