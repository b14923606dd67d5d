"""`wiserl eval`: how well a trained policy does, and what that looks like."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path  # noqa: TC003 - flags are made from the types
from typing import TYPE_CHECKING, Annotated

import tyro

from common.errors import InvalidFieldError
from learner.config import EVALUATION_SEEDS_FROM
from wiserl import parsing, runs, settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wiserl.video import Filming

VIDEOS = "videos"
"""Where films go in a run's folder."""


@dataclasses.dataclass(frozen=True)
class EvalFlags:
    """Plays episodes of the policy that a run has saved last and prints how it did.

    Actions are greedy unless --stochastic is said. Needs no torch. Exit codes: 0 played; 1 no
    policy, another environment, or one that cannot be built or filmed; 2 a flag that cannot be.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder, or one above it: then it is the newest run there."""

    episodes: int = 100
    """How many to play."""

    stochastic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Act as in training, exploration included; the same seeds still play the same episodes."""

    random: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="AGENT")
    ] = ()
    """An agent that acts at random in place of the policy, or a team such as adversary; repeat the
    flag for several. The same episodes are also played with all agents at random, to compare."""

    video: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Film the first episodes into the run's folder videos/: MP4 with an ffmpeg, else GIF."""

    video_episodes: int = 3
    """How many episodes are filmed, a file each."""

    video_folder: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where films go instead; implies --video."""

    first_seed: int = EVALUATION_SEEDS_FROM
    """Episode i is reset with this plus i; by default those that training evaluates with."""

    env: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    """Another environment than the run's, with the same spaces."""

    env_arg: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")
    ] = ()
    """A keyword argument of the environment in place of the run's; repeat the flag for several."""

    allow_module: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A module that an environment module:factory may come from; its code runs here."""

    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON with every return."""

    def __post_init__(self) -> None:
        """Refuses values that cannot be."""
        for name in ("episodes", "video_episodes"):
            if getattr(self, name) < 1:
                raise InvalidFieldError(name, f"{getattr(self, name)} is below 1")
        if self.first_seed < 0:
            raise InvalidFieldError("first_seed", f"{self.first_seed} is below 0")


FLAGS = EvalFlags


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    parsed = parsing.one(EvalFlags, arguments, program="wiserl eval")
    folder = runs.chosen(parsed.run)
    runs.tell(parsed.run, folder.path)
    from wiserl.evaluate import evaluate
    from wiserl.sides import beside_chance, described

    filming = None
    if parsed.video or parsed.video_folder is not None:
        from wiserl import video

        filming = video.Filming(parsed.video_folder or folder.path / VIDEOS, parsed.video_episodes)
    play = functools.partial(
        evaluate,
        folder,
        episodes=parsed.episodes,
        first_seed=parsed.first_seed,
        env=parsed.env,
        env_args=settings.key_values(parsed.env_arg, "--env-arg") or None,
        allowed_modules=parsed.allow_module,
        stochastic=parsed.stochastic,
    )
    played = play(filming=filming, random_agents=parsed.random)
    chance = play(random_agents=tuple(played.agent_returns)) if parsed.random else None
    if parsed.json:
        said = {"greedy": not parsed.stochastic, "videos": _names(filming)}
        beside = {} if chance is None else {"random": parsed.random, "all_random": chance.to_json()}
        print(json.dumps(played.to_json() | said | beside))
        return 0
    for path, value, length in zip(_names(filming), played.returns, played.lengths, strict=False):
        print(f"{path}: return {value:.2f}, {length:,} steps")
    print(played.describe("stochastic" if parsed.stochastic else "greedy"))
    apart = described(played) if chance is None else beside_chance(played, chance, parsed.random)
    for line in apart:
        print(line)
    return 0


def _names(filming: Filming | None) -> list[str]:
    return [] if filming is None else [str(path) for path in filming.files]
