"""`wiserl eval`: how well a trained policy does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path  # noqa: TC003 - flags are made from the types
from typing import TYPE_CHECKING, Annotated

import tyro

from common.errors import InvalidFieldError
from learner.config import EVALUATION_SEEDS_FROM
from learner.run_folder import RunFolder
from wiserl import settings

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class EvalFlags:
    """Plays greedy episodes of the policy that a run has saved last and prints how it did."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""

    episodes: int = 100
    """How many to play."""

    first_seed: int = EVALUATION_SEEDS_FROM
    """Episode i is reset with this plus i; by default those that training evaluates with."""

    env: str | None = None
    """Another environment than the run's, with the same spaces."""

    env_arg: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")
    ] = ()
    """A keyword argument of the environment in place of the run's; repeat the flag for several."""

    allow_module: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A module that an environment module:factory may come from; its code runs here."""

    json: bool = False
    """Print JSON with every return."""


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    parsed = tyro.cli(EvalFlags, prog="wiserl eval", args=list(arguments))
    if parsed.episodes < 1:
        raise InvalidFieldError("episodes", f"{parsed.episodes} is below 1")
    from wiserl.evaluate import evaluate

    evaluation = evaluate(
        RunFolder(parsed.run),
        episodes=parsed.episodes,
        first_seed=parsed.first_seed,
        env=parsed.env,
        env_args=settings.key_values(parsed.env_arg, "--env-arg") or None,
        allowed_modules=parsed.allow_module,
    )
    print(json.dumps(evaluation.to_json()) if parsed.json else evaluation.describe())
    return 0
