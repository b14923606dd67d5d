"""Films episodes: draws environments in memory, and puts a camera before them."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np

from common.errors import WiseRLError
from wiserl import films

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from sampler.environments.multi_agent import ParallelEnvironment
    from sampler.environments.registry import Environment, Recipe
    from wiserl.films import Gif, Mp4, Reel

MODE = "rgb_array"
"""The render mode of Gymnasium that answers frames, `[height, width, 3]` uint8."""

SMALLEST_SIDE = 160
"""Smaller frames, such as MinAtar's 10 by 10 cells, are enlarged by a whole factor up to it."""

_USUAL_FRAMES_PER_SECOND = 30

_WITHOUT_A_DISPLAY = {"SDL_VIDEODRIVER": "dummy", "MUJOCO_GL": "egl"}
_QUIET = {"PYGAME_HIDE_SUPPORT_PROMPT": "1"}


@dataclasses.dataclass
class Filming:
    """Films the first episodes of an evaluation, each into a file of its own.

    Attributes:
        folder: Where the films go; made where it is missing.
        episodes: How many are filmed at most.
        kind: Of film.
        files: The films so far, in the order of the episodes.
    """

    folder: Path
    episodes: int
    kind: type[Mp4 | Gif] = dataclasses.field(default_factory=films.best)
    files: list[Path] = dataclasses.field(default_factory=list)

    def environment(self, recipe: Recipe) -> Environment:
        """A copy that can be filmed; `film` is to wrap it.

        Raises:
            WiseRLError: The environment cannot be drawn.
        """
        _prepare_drawing()
        drawn = dataclasses.replace(recipe, arguments={**recipe.arguments, "render_mode": MODE})
        try:
            environment = drawn.plain()
        except (TypeError, WiseRLError) as error:
            if "render_mode" not in str(error):
                raise
            raise _undrawable(recipe.name, "takes no argument render_mode") from None
        known = environment.metadata.get("render_modes") or ()
        if MODE not in known or getattr(environment, "render_mode", None) != MODE:
            environment.close()
            said = ", ".join(map(str, known)) or "none"
            raise _undrawable(recipe.name, f"has no render mode {MODE} (it has: {said})")
        return environment

    def film(self, environment: Environment, name: Callable[[int], str]) -> Environment:
        """The copy with a camera: every seeded episode becomes a film named `name(seed)`.

        Raises:
            WiseRLError: The folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WiseRLError(f"{self.folder} cannot be made: {error.strerror}") from None
        if not os.access(self.folder, os.W_OK):
            raise WiseRLError(f"{self.folder} cannot be written to; name another --video-folder")
        if isinstance(environment, gymnasium.Env):
            return _Filmed(environment, _Camera(environment, self, name))
        return cast("Environment", _FilmedAgents(environment, _Camera(environment, self, name)))

    def reel(self, name: str, frames_per_second: float) -> tuple[Path, Reel]:
        """Begins a film: where it will be, and what takes its frames."""
        path = self.folder / f"{name}{self.kind.ending}"
        return path, self.kind(path, frames_per_second)


class _Camera:
    """Makes a film of every seeded episode of an environment."""

    def __init__(
        self, environment: Environment, filming: Filming, name: Callable[[int], str]
    ) -> None:
        self._environment = environment
        self._filming = filming
        self._name = name
        self._reel: Reel | None = None
        self._path: Path | None = None

    def begin(self, seed: int) -> None:
        """Begins a film with the frame after the reset."""
        self.end()  # an episode that was cut for its length
        rate = self._environment.metadata.get("render_fps") or _USUAL_FRAMES_PER_SECOND
        self._path, self._reel = self._filming.reel(self._name(seed), float(rate))
        self._reel.add(self._frame())

    def add(self, *, over: bool) -> None:
        """Takes the frame after a step; an episode's end is its film's."""
        if self._reel is not None:
            self._reel.add(self._frame())
            if over:
                self.end()

    def end(self) -> None:
        """Finishes the film, if one is running."""
        if self._reel is not None and self._path is not None:
            self._reel.finish()
            self._filming.files.append(self._path)
            self._reel = None

    def discard(self) -> None:
        """Throws away a film that is not over."""
        if self._reel is not None:
            self._reel.discard()

    def _frame(self) -> NDArray[np.uint8]:
        try:
            frame: Any = self._environment.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise WiseRLError(f"drawing the environment needs a package: {error}") from None
        except Exception as error:  # whatever a renderer without a display raises
            raise WiseRLError(
                f"the environment failed to draw itself: {type(error).__name__}: {error}; where "
                "that is for want of a display, try MUJOCO_GL=osmesa (MuJoCo), or xvfb-run"
            ) from error
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
            shape = getattr(frame, "shape", None)
            raise WiseRLError(
                f"render() answered a {type(frame).__name__} of shape {shape}; with render mode "
                f"{MODE} it has to be an array [height, width, 3] uint8"
            )
        return _enlarged(frame.astype(np.uint8, copy=False))


class _Filmed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment of one agent before a camera."""

    def __init__(self, environment: gymnasium.Env[Any, Any], camera: _Camera) -> None:
        super().__init__(environment)
        self._camera = camera

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Resets, and begins a film."""
        answer = self.env.reset(seed=seed, options=options)
        self._camera.begin(seed or 0)
        return answer

    def step(self, action: Any) -> Any:  # noqa: ANN401
        """Steps, and takes a frame."""
        answer = self.env.step(action)
        self._camera.add(over=bool(answer[2] or answer[3]))
        return answer

    def close(self) -> None:
        """Closes; a film that is not over is thrown away."""
        self._camera.discard()
        self.env.close()


class _FilmedAgents:
    """An environment of several agents before a camera; what is not said here it says itself."""

    def __init__(self, environment: ParallelEnvironment, camera: _Camera) -> None:
        self._environment = environment
        self._camera = camera

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the environment has
        return getattr(self._environment, name)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Resets, and begins a film."""
        answer = self._environment.reset(seed=seed, options=options)
        self._camera.begin(seed or 0)
        return answer

    def step(self, actions: Any) -> Any:  # noqa: ANN401
        """Steps, and takes a frame."""
        answer = self._environment.step(actions)
        self._camera.add(over=not self._environment.agents)
        return answer

    def close(self) -> None:
        """Closes; a film that is not over is thrown away."""
        self._camera.discard()
        self._environment.close()


def _prepare_drawing() -> None:
    """Has the usual renderers draw in memory where there is no display; what is set stands."""
    defaults = dict(_QUIET)
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        defaults |= _WITHOUT_A_DISPLAY
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _enlarged(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = max(1, SMALLEST_SIDE // min(frame.shape[:2]))
    return frame if factor == 1 else frame.repeat(factor, axis=0).repeat(factor, axis=1)


def _undrawable(name: str, why: str) -> WiseRLError:
    return WiseRLError(
        f"{name} cannot be filmed: it {why}; evaluate it without --video, or give the environment "
        f"{MODE!r} in metadata['render_modes'] and a render() that answers [height, width, 3] uint8"
    )
