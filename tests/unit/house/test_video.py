from __future__ import annotations

import sys

import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from saved_policy import run_with, saved

from common.errors import WiseRLError
from sampler.environments.registry import Recipe
from wiserl import films
from wiserl.evaluate import evaluate
from wiserl.films import Gif, Mp4
from wiserl.video import Filming


class Drawn(gymnasium.Env):
    """Two steps an episode; draws whatever it is told."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012 - Gymnasium's way

    def __init__(self, render_mode=None, answer=None):
        self.render_mode = render_mode
        self.answer = answer
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return 0, {}

    def step(self, action):
        self.steps += 1
        return 0, 1.0, self.steps == 2, False, {}

    def render(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        return np.full((10, 11, 3), 100 * self.steps, np.uint8)


class Blind(Drawn):
    metadata = {"render_modes": ["human"]}  # noqa: RUF012


def blind():
    return Blind()


def filmed(tmp_path, kind, **arguments):
    """Plays one episode with a camera."""
    filming = Filming(tmp_path / "films", 1, kind)
    camera = filming.film(filming.environment(Recipe("Drawn", arguments, factory=Drawn)), str)
    camera.reset(seed=5)
    while not camera.step(0)[2]:
        pass
    camera.close()
    return filming


def test_an_episode_becomes_an_mp4(tmp_path):
    (path,) = filmed(tmp_path, Mp4).files
    assert path == tmp_path / "films" / "5.mp4"
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(160, 176, 3) for frame in reader]
    assert about["fps"] == 25
    # A frame of the reset and one of each step, enlarged by 16 from 10 by 11.
    assert [round(frame.mean(), -1) for frame in frames] == [0, 100, 200]


def test_without_ffmpeg_it_becomes_a_gif(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert films.best() is Gif
    (path,) = filmed(tmp_path, Gif).files
    with Image.open(path) as film:
        assert (film.format, film.size, film.n_frames) == ("GIF", (176, 160), 3)
        assert film.info["duration"] == 40


def test_without_any_encoder_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(WiseRLError, match=r"pip install 'wiserl\[video\]'"):
        films.best()


def test_a_gif_leaves_out_frames_that_it_could_not_play_in_time(tmp_path):
    film = Gif(tmp_path / "film.gif", 50)
    for shade in range(10):
        film.add(np.full((8, 8, 3), 20 * shade, np.uint8))
    film.finish()
    with Image.open(tmp_path / "film.gif") as shown:
        assert (shown.n_frames, shown.info["duration"]) == (5, 40)


@pytest.mark.parametrize("factory", [Blind, blind])
def test_what_cannot_be_drawn_is_refused_with_the_remedy(tmp_path, factory):
    filming = Filming(tmp_path, 1, Mp4)
    with pytest.raises(WiseRLError, match=r"Blind cannot be filmed: .*without --video"):
        filming.environment(Recipe("Blind", {}, factory=factory))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (gymnasium.error.DependencyNotInstalled("pip install paint"), "pip install paint"),
        (RuntimeError("no display"), "RuntimeError: no display; .*MUJOCO_GL"),
        ([1, 2], "answered a list"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
    ],
)
def test_a_failing_renderer_leaves_nothing_behind(tmp_path, answer, said):
    with pytest.raises(WiseRLError, match=said):
        filmed(tmp_path, Mp4, answer=answer)
    assert list((tmp_path / "films").iterdir()) == []


@pytest.mark.parametrize("kind", [Mp4, Gif])
def test_an_episode_that_is_broken_off_leaves_no_film(tmp_path, kind):
    filming = Filming(tmp_path / "films", 1, kind)
    camera = filming.film(filming.environment(Recipe("Drawn", {}, factory=Drawn)), str)
    camera.reset(seed=1)
    camera.step(0)
    camera.close()
    assert list((tmp_path / "films").iterdir()) == []


def test_filming_changes_no_result(tmp_path):
    folder = run_with(saved(), tmp_path / "run")
    filming = Filming(tmp_path / "films", 2, Mp4)
    arguments = {"max_episode_steps": 15}
    found = evaluate(folder, episodes=5, env_args=arguments, filming=filming)
    assert found == evaluate(folder, episodes=5, env_args=arguments)
    names = [path.name for path in filming.files]
    assert names == ["policy-7-seed-1000000.mp4", "policy-7-seed-1000001.mp4"]
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == names


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WiseRLError, match="cannot be made"):
        Filming(tmp_path / "file" / "films", 1, Mp4).film(Drawn("rgb_array"), str)
