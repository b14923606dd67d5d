"""Atari games through the usual preprocessing, and what a lost life is to a segment."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import gymnasium
import numpy as np
import pool_models
import pytest
from pool_rolls import config, ready, reference, roll

from sampler.environments import registry
from sampler.environments.building import FEWEST_FOR_NATIVE, build
from sampler.environments.modules import EnvironmentRefusedError
from sampler.environments.plain import PlainEnvironments
from sampler.inline_pool import InlinePool

if TYPE_CHECKING:
    from protos.wiserl.v1 import environment_pb2

WRAPPER = "sampler.environments.atari:preprocessed"


def game(name: str = "ALE/Breakout-v5", **arguments) -> environment_pb2.EnvironmentReference:
    """As a learner names it; no module has to be allowed for it."""
    message = reference(name, **{"frameskip": 1, **arguments})
    message.wrappers.append(WRAPPER)
    return message


@pytest.fixture
def breakout():
    made = registry.resolve(game()).plain()
    yield made
    made.close()


def played(environment, seed: int = 0):
    """What a game of random actions shows, row by row: observation, reward, ends and info."""
    generator = np.random.default_rng(seed)
    observation, info = environment.reset(seed=seed)
    rows = [(observation, 0.0, False, False, info)]
    while not (rows[-1][2] or rows[-1][3]):
        rows.append(environment.step(int(generator.integers(environment.action_space.n))))
    return rows


def test_frames_are_small_grey_bytes_of_which_the_last_four_are_seen(breakout):
    assert breakout.observation_space.shape == (4, 84, 84)
    assert breakout.observation_space.dtype == np.uint8
    rows = played(breakout)
    for (before, *_), (after, *_) in itertools.pairwise(rows):
        np.testing.assert_array_equal(before[1:], after[:-1])
    assert any(
        (before[0] != after[0]).any() for (before, *_), (after, *_) in itertools.pairwise(rows)
    )


def test_an_action_lasts_four_frames_and_a_game_begins_after_some_of_no_action(breakout):
    _, _, _, _, second = (rows := played(breakout))[2]
    assert second["episode_frame_number"] - rows[1][4]["episode_frame_number"] == 4
    begins = {breakout.reset(seed=seed)[1]["episode_frame_number"] for seed in range(12)}
    assert begins <= set(range(1, 31))
    assert len(begins) > 3


def test_every_lost_life_is_told_but_the_last_which_ends_the_game(breakout):
    rows = played(breakout)
    lives = [info["lives"] for *_, info in rows]
    told = [bool(info.get("life_lost")) for *_, info in rows]
    assert lives[0] == 5
    assert sum(told) == 4
    assert told[1:] == [after < before and after > 0 for before, after in itertools.pairwise(lives)]
    assert rows[-1][2]
    assert breakout.reset(seed=1)[1]["lives"] == 5


def test_rewards_are_the_games():
    environment = registry.resolve(game("ALE/SpaceInvaders-v5")).plain()
    rewards = {reward for _, reward, *_ in played(environment)}
    assert max(rewards) > 1.0
    environment.close()


def test_what_does_not_go_with_the_wrapper_is_refused_with_the_remedy(monkeypatch):
    with pytest.raises(EnvironmentRefusedError, match=r"skips 4 frames itself.*frameskip=1"):
        registry.resolve(game(frameskip=4)).plain()
    message = reference("CartPole-v1")
    message.wrappers.append(WRAPPER)
    with pytest.raises(EnvironmentRefusedError, match="CartPole-v1 is no Atari game"):
        registry.resolve(message).plain()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EnvironmentRefusedError, match=r"pip install 'wiserl\[atari\]'"):
        registry.resolve(game()).plain()


def test_without_the_package_the_id_says_what_to_install(monkeypatch):
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(gymnasium.registry, "ALE/Breakout-v5", raising=False)
    with pytest.raises(EnvironmentRefusedError, match=r"ale_py is not installed.*wiserl\[atari\]"):
        registry.resolve(game())


def test_a_vectorisation_with_other_spaces_is_left_alone():
    # Atari's own has the frames prepared, the plain environment has not.
    recipe = registry.resolve(reference("ALE/Breakout-v5"))
    assert recipe.has_native
    environments = build(recipe, FEWEST_FOR_NATIVE, "auto")
    assert isinstance(environments, PlainEnvironments)
    environments.close()


def test_a_lost_life_is_terminal_for_values_and_ends_nothing_else():
    pool = InlinePool(config("Mortal", envs_per_worker=1))
    ready(pool, pool_models.uniform_choice)
    rolled = roll(pool, 8)
    columns = {name: array[:, 0].tolist() for name, array in rolled.columns.items()}
    # A life goes in the second step, the game ends with the fifth.
    t, f = True, False
    assert columns["terminated"] == [f, t, f, f, t, f, f, t]
    assert columns["episode_end"] == [f, f, f, f, t, f, f, f]
    assert columns["valid"] == [t, t, t, t, t, f, t, t]
    assert columns["is_first"] == [t, f, f, f, f, f, t, f]
    assert columns["truncated"] == [f] * 8
    (episode,) = rolled.episodes
    assert (episode.length, episode.episode_return, episode.terminated) == (5, 5.0, True)
    assert not episode.metrics
    pool.close()
