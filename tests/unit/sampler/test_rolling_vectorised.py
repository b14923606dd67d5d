"""Rows of environments with a vectorisation of their own, in every autoreset mode of Gymnasium."""

from __future__ import annotations

import gymnasium
import numpy as np
import pool_models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_rolls import config, ready, roll

from sampler.environments.building import FEWEST_FOR_NATIVE
from sampler.environments.modules import EnvironmentRefusedError
from sampler.inline_pool import InlinePool
from sampler.seeding import SlotIdentity

LATE, PROMPT = "CountingNextStep-v0", ("CountingSameStep-v0", "CountingDisabled-v0")


def native(name, slots=2, make=pool_models.uniform_choice, **settings):
    pool = InlinePool(config(name, envs_per_worker=slots, vectorization="native", **settings))
    ready(pool, make)
    return pool


def test_the_next_step_mode_gives_what_plain_environments_give():
    plain = InlinePool(config("Counting", envs_per_worker=2, vectorization="plain"))
    ready(plain, pool_models.uniform_choice)
    one, other = roll(plain, 23), roll(native(LATE), 23)
    for name, array in one.columns.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)
    assert other.episodes == one.episodes
    assert not other.batch.HasField("final_observations")


@pytest.mark.parametrize("name", PROMPT)
def test_a_reset_at_once_leaves_the_last_observation_beside(name):
    rolled = roll(native(name), 8)
    slot = {column: array[:, 0].tolist() for column, array in rolled.columns.items()}
    o = [[e, s] for e, s, _ in slot["observation"]]
    assert o == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [1, 3], [2, 0], [2, 1]]
    t, f = True, False
    assert slot["valid"] == [t] * 8
    assert slot["is_first"] == [t, f, f, t, f, f, f, t]
    assert slot["terminated"] == [f, f, t, f, f, f, f, f]
    assert slot["truncated"] == [f, f, f, f, f, f, t, f]
    assert slot["episode_end"] == [f, f, t, f, f, f, t, f]
    rewards = [0.1, 1.1, 2.1, 1.1, 2.1, 3.1, 4.1, 2.1]
    assert slot["reward"] == np.array(rewards, np.float32).tolist()
    assert rolled.final_places == [(2, 0), (2, 1), (6, 0), (6, 1)]
    assert rolled.finals["observation"][:, :2].tolist() == [[0, 3], [0, 3], [1, 4], [1, 4]]
    assert rolled.finals["observation"][::2, 2].tolist() == [slot["action"][2], slot["action"][6]]
    first = rolled.episodes[0]
    assert (first.slot, first.end_row, first.length, first.terminated) == (0, 2, 3, True)
    assert first.episode_return == pytest.approx(3.3, abs=1e-12)
    assert dict(first.metrics) == {"is_success": 1.0, "steps": 3.0}


@pytest.mark.parametrize("name", PROMPT)
def test_an_end_in_the_last_row_has_its_last_observation_too(name):
    pool = native(name)
    first, second = roll(pool, 3), roll(pool, 2)
    assert first["observation"][3, 0, :2].tolist() == [1, 0]
    assert first.final_places == [(2, 0), (2, 1)]
    assert second["is_first"][:, 0].tolist() == [True, False]
    assert not second.batch.HasField("final_observations")


@settings(max_examples=15)
@given(st.sampled_from([LATE, *PROMPT]), st.lists(st.integers(1, 6), min_size=2, max_size=4))
def test_cutting_a_life_into_segments_changes_nothing(name, lengths):
    whole = roll(native(name), sum(lengths))
    pool = native(name)
    parts = [roll(pool, length) for length in lengths]
    for column, expected in whole.columns.items():
        if column != "observation":
            joined = np.concatenate([part[column] for part in parts])
            np.testing.assert_array_equal(joined, expected, err_msg=column)
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    places = [
        (row + start, slot)
        for start, part in zip(starts, parts, strict=True)
        for row, slot in part.final_places
    ]
    assert places == whole.final_places
    assert sum(len(part.episodes) for part in parts) == len(whole.episodes)


@pytest.mark.parametrize("name", [LATE, *PROMPT])
def test_some_slots_are_recorded_while_all_are_stepped(name):
    everyone, some = native(name, slots=3), native(name, slots=3)
    whole, chosen = roll(everyone, 8), roll(some, 8, slots=(0, 2))
    assert [part.slot for part in chosen.batch.slots] == [0, 2]
    for column, array in whole.columns.items():
        np.testing.assert_array_equal(chosen[column], array[:, [0, 2]], err_msg=column)
    expected = [(row, slot // 2) for row, slot in whole.final_places if slot != 1]
    assert chosen.final_places == expected
    if expected:
        kept = [i for i, (_, slot) in enumerate(whole.final_places) if slot != 1]
        np.testing.assert_array_equal(
            chosen.finals["observation"], whole.finals["observation"][kept]
        )
    assert chosen.episodes == [episode for episode in whole.episodes if episode.slot != 1]
    # The slot that went along has a gap.
    following = roll(some, 2)
    assert [part.first_row for part in following.batch.slots] == [8, 8, 8]
    assert some.progress().rows_dropped == 8
    assert some.progress().rows_rolled == 30


@pytest.mark.parametrize("name", ["MaskedNextStep-v0", "MaskedSameStep-v0", "MaskedDisabled-v0"])
def test_action_masks_of_vector_infos(name):
    pool = native(name, make=lambda spec: pool_models.first_available(spec, 3))
    rolled = roll(pool, 7)
    steps = [0, 1, 2, 3, 4, 5, 0, 1] if "Next" in name else [0, 1, 2, 3, 4, 0, 1, 2]
    expected = np.eye(3, dtype=bool)[np.array(steps) % 3]
    for slot in range(2):
        np.testing.assert_array_equal(rolled["action_mask"][:, slot], expected)
    if "Next" not in name:
        assert rolled.final_places == [(4, 0), (4, 1)]
        assert rolled.finals["action_mask"].tolist() == [[False, False, True]] * 2


@pytest.mark.parametrize("name", [LATE, *PROMPT])
def test_recurrent_state_and_resets(name):
    pool = native(name, make=pool_models.recurrent_counter)
    pool.set_scalars([pool_models.learner_pb2.Scalar(key="epsilon", values=[0.5])])
    first, second = roll(pool, 2), roll(pool, 5)
    counted = [one["record/counted"][:, 1, 0].tolist() for one in (first, second)]
    assert counted[0] == [10, 11]
    assert counted[1] == ([12, 13, 10, 11, 12] if name == LATE else [12, 10, 11, 12, 13])
    assert second["state/count"][1].tolist() == [12, 22]


def test_cartpole_natively_vectorised_is_gymnasiums_step_by_step():
    pool = native("CartPole-v1", slots=3, make=pool_models.mlp)
    rolled = roll(pool, 60)
    reference = gymnasium.make_vec("CartPole-v1", 3, vectorization_mode="vector_entry_point")
    # One seed for all: that of the lowest slot.
    observation, _ = reference.reset(seed=SlotIdentity(1, 0, 0, 0).environment_seed())
    for row in range(60):
        np.testing.assert_array_equal(rolled["observation"][row], observation)
        observation, reward, terminated, truncated, _ = reference.step(rolled["action"][row])
        np.testing.assert_array_equal(rolled["reward"][row], reward)
        np.testing.assert_array_equal(rolled["terminated"][row], terminated)
        np.testing.assert_array_equal(rolled["truncated"][row], truncated)
    np.testing.assert_array_equal(rolled["observation"][60], observation)
    assert (rolled["reward"] == rolled["valid"]).all()
    assert not rolled["valid"].all()


def test_auto_takes_the_native_vectorisation_where_there_is_one_and_it_pays():
    many = InlinePool(config("CountingSameStep-v0", envs_per_worker=FEWEST_FOR_NATIVE))
    ready(many, pool_models.uniform_choice)
    assert roll(many, 4).final_places == [(2, slot) for slot in range(FEWEST_FOR_NATIVE)]
    few = InlinePool(config("CountingSameStep-v0", envs_per_worker=FEWEST_FOR_NATIVE - 1))
    ready(few, pool_models.uniform_choice)
    assert roll(few, 4).final_places == []
    with pytest.raises(EnvironmentRefusedError, match="no vectorisation of its own"):
        InlinePool(config("Counting", vectorization="native"))


def test_a_vectorisation_that_does_not_say_how_it_resets_is_refused_or_passed_over():
    class Silent(gymnasium.vector.SyncVectorEnv):
        def __init__(self, num_envs):
            super().__init__([lambda: gymnasium.make("CartPole-v1")] * num_envs)
            del self.metadata["autoreset_mode"]

    gymnasium.register(
        "Silent-v0",
        entry_point="gymnasium.envs.classic_control:CartPoleEnv",
        vector_entry_point=Silent,
    )
    with (
        pytest.warns(UserWarning, match="AutoresetMode"),
        pytest.raises(EnvironmentRefusedError, match="autoreset_mode"),
    ):
        InlinePool(config("Silent-v0", vectorization="native"))
    with pytest.warns(UserWarning, match="AutoresetMode"):
        InlinePool(config("Silent-v0", envs_per_worker=FEWEST_FOR_NATIVE)).close()
    del gymnasium.registry["Silent-v0"]
