"""Distributed reinforcement learning as explicit gRPC services.

    outcome = wiserl.train("ppo", env="CartPole-v1")
    agent = wiserl.load(outcome.folder)
    action = agent.act(observation)

To be told how a run goes, subclass `Observer` and pass an instance as one of `callbacks`.

Importing this package imports neither torch nor an environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from learner.observer import Observer, StopTraining

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from learner.outcome import Outcome
    from wiserl.agent import Agent

__all__ = ["Observer", "StopTraining", "load", "train"]


def train(
    algorithm: str,
    *,
    env: str,
    runs: Path | str = "runs",
    config: Path | str | None = None,
    callbacks: Sequence[Observer] = (),
    **settings: Any,  # noqa: ANN401 - any setting
) -> Outcome:
    """Trains on this machine, as `wiserl train` does, and returns when it is over.

    Args:
        algorithm: A name such as `ppo`, or `module:Class`.
        env: A Gymnasium id, or `module:factory`.
        runs: The folder of all runs.
        config: A YAML file of settings.
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
        algorithm, env=env, runs=runs, config=config, callbacks=callbacks, given=settings
    )


def load(run: Path | str) -> Agent:
    """The policy that a run has saved last, ready to act.

    Args:
        run: The run's folder.

    Raises:
        WiseRLError: The folder holds no policy.
    """
    from wiserl import agent

    return agent.load(run)
