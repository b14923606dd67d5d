"""Atari as it is usually learned from, around an environment of the Arcade Learning Environment.

Mnih et al. 2015, https://doi.org/10.1038/nature14236, over Gymnasium's own wrappers: up to 30
no-ops at the begin of an episode, every action for 4 frames of which the last two are pooled by
their maximum, 84 x 84 pixels in grey, 4 frames stacked, the newest last. Rewards stay as the game
gives them: to clip them is the learner's (`clip_rewards`), so that people are shown the score.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from sampler.environments.modules import EnvironmentRefusedError
from sampler.environments.plain import LIFE_LOST

NO_OPS = 30
FRAMES_SKIPPED = 4
PIXELS = 84
FRAMES_STACKED = 4


def preprocessed(environment: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """A wrapper, see the module; a life that is lost is terminal for values but ends no episode.

    Raises:
        EnvironmentRefusedError: It is no Atari game, skips frames itself, or the packages are not
            all there.
    """
    skipped = getattr(environment.unwrapped, "_frameskip", None)
    if skipped is None:
        raise EnvironmentRefusedError(
            f"{_name(environment)} is no Atari game, which this wrapper is for; leave it out"
        )
    if skipped != 1:
        raise EnvironmentRefusedError(
            f"{_name(environment)} skips {skipped} frames itself, and the wrapper would skip "
            f"{FRAMES_SKIPPED} of those; say --env-arg frameskip=1"
        )
    try:
        frames = AtariPreprocessing(
            environment, noop_max=NO_OPS, frame_skip=FRAMES_SKIPPED, screen_size=PIXELS
        )
    except gymnasium.error.DependencyNotInstalled as error:
        raise EnvironmentRefusedError(
            f"{_name(environment)}: {error}; pip install 'wiserl[atari]'"
        ) from error
    return FrameStackObservation(LostLives(frames), FRAMES_STACKED)


class LostLives(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says in `info["life_lost"]` that a step cost a life and the game went on."""

    def __init__(self, environment: gymnasium.Env[Any, Any]) -> None:
        super().__init__(environment)
        self._lives = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins a game with all its lives."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._lives = info["lives"]
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401 - as the base class
        """A step, with what it cost."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if info["lives"] < self._lives and not (terminated or truncated):
            info = {**info, LIFE_LOST: True}
        self._lives = info["lives"]
        return observation, reward, terminated, truncated, info


def _name(environment: gymnasium.Env[Any, Any]) -> str:
    known = environment.spec
    return type(environment.unwrapped).__name__ if known is None else known.id
