"""Properties: a pool sees what Gymnasium's own SyncVectorEnv sees under the same actions."""

from __future__ import annotations

import numpy as np
import pool_environments
import pool_models
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_rolls import config, ready, roll

from sampler.inline_pool import InlinePool
from sampler.seeding import SlotIdentity


@settings(max_examples=20)
@given(
    st.integers(1, 5),
    st.integers(0, 2**63 - 1),
    st.lists(st.integers(1, 30), min_size=1, max_size=3),
)
def test_a_plain_pool_against_sync_vector_env(slots, seed, lengths):
    pool = InlinePool(config("Seeded", envs_per_worker=slots))
    ready(pool, pool_models.uniform_choice, seed=seed)
    reference = SyncVectorEnv([pool_environments.Seeded] * slots)
    seeds = [SlotIdentity(seed, 0, slot, 0).environment_seed() for slot in range(slots)]
    observation, _ = reference.reset(seed=seeds)
    total, ended, row_number = np.zeros(slots), np.zeros(slots, bool), 0
    for length in lengths:
        rolled = roll(pool, length)
        episodes = {(one.slot, one.end_row): one.episode_return for one in rolled.episodes}
        for row in range(length):
            np.testing.assert_array_equal(rolled["observation"][row], observation)
            np.testing.assert_array_equal(rolled["valid"][row], ~ended)
            observation, reward, terminated, truncated, _ = reference.step(rolled["action"][row])
            np.testing.assert_array_equal(rolled["reward"][row], reward.astype(np.float32))
            np.testing.assert_array_equal(rolled["terminated"][row], terminated)
            np.testing.assert_array_equal(rolled["truncated"][row], truncated)
            ended = terminated | truncated
            np.testing.assert_array_equal(rolled["episode_end"][row], ended)
            total += reward
            for slot in np.flatnonzero(ended):
                told = episodes.pop((slot, row_number))
                np.testing.assert_allclose(told, total[slot], rtol=1e-12, atol=1e-12)
                total[slot] = 0
            row_number += 1
        np.testing.assert_array_equal(rolled["observation"][length], observation)
        assert not episodes
    pool.close()


@settings(max_examples=20)
@given(
    st.integers(1, 4),
    st.integers(0, 2**63 - 1),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
)
def test_a_native_pool_that_resets_at_once_against_sync_vector_env(slots, seed, lengths):
    pools = [
        InlinePool(config(name, envs_per_worker=slots, vectorization="native"))
        for name in ("SeededSameStep-v0", "SeededDisabled-v0")
    ]
    for pool in pools:
        ready(pool, pool_models.uniform_choice, seed=seed)
    mode = AutoresetMode.SAME_STEP
    reference = SyncVectorEnv([pool_environments.Seeded] * slots, autoreset_mode=mode)
    first_seed = SlotIdentity(seed, 0, 0, 0).environment_seed()
    observation, _ = reference.reset(seed=first_seed)
    first, row_number = np.ones(slots, bool), 0
    for length in lengths:
        rolled, by_hand = (roll(pool, length) for pool in pools)
        assert rolled.batch.SerializeToString() == by_hand.batch.SerializeToString()
        finals = dict(zip(rolled.final_places, rolled.finals.get("observation", []), strict=True))
        metrics = {(one.slot, one.end_row): dict(one.metrics) for one in rolled.episodes}
        for row in range(length):
            np.testing.assert_array_equal(rolled["observation"][row], observation)
            np.testing.assert_array_equal(rolled["is_first"][row], first)
            observation, reward, terminated, truncated, info = reference.step(rolled["action"][row])
            np.testing.assert_array_equal(rolled["reward"][row], reward.astype(np.float32))
            np.testing.assert_array_equal(rolled["terminated"][row], terminated)
            np.testing.assert_array_equal(rolled["truncated"][row], truncated)
            first = terminated | truncated
            for slot in np.flatnonzero(first):
                np.testing.assert_array_equal(finals.pop((row, slot)), info["final_obs"][slot])
                told = info["final_info"].get("_place", np.zeros(slots, bool))[slot]
                expected = {"place": info["final_info"]["place"][slot]} if told else {}
                assert metrics.pop((slot, row_number)) == expected
            row_number += 1
        np.testing.assert_array_equal(rolled["observation"][length], observation)
        assert not finals
        assert not metrics


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 2**63 - 1), st.lists(st.integers(1, 40), max_size=3))
def test_a_native_pool_that_resets_late_against_sync_vector_env(slots, seed, lengths):
    pool = InlinePool(config("SeededNextStep-v0", envs_per_worker=slots, vectorization="native"))
    ready(pool, pool_models.uniform_choice, seed=seed)
    reference = SyncVectorEnv([pool_environments.Seeded] * slots)
    observation, _ = reference.reset(seed=SlotIdentity(seed, 0, 0, 0).environment_seed())
    ended, row_number = np.zeros(slots, bool), 0
    for length in lengths:
        rolled = roll(pool, length)
        metrics = {(one.slot, one.end_row): dict(one.metrics) for one in rolled.episodes}
        for row in range(length):
            np.testing.assert_array_equal(rolled["observation"][row], observation)
            np.testing.assert_array_equal(rolled["valid"][row], ~ended)
            observation, reward, terminated, truncated, info = reference.step(rolled["action"][row])
            np.testing.assert_array_equal(rolled["reward"][row], reward.astype(np.float32))
            ended = terminated | truncated
            np.testing.assert_array_equal(rolled["episode_end"][row], ended)
            for slot in np.flatnonzero(ended):
                told = info.get("_place", np.zeros(slots, bool))[slot]
                expected = {"place": info["place"][slot]} if told else {}
                assert metrics.pop((slot, row_number)) == expected
            row_number += 1
        assert not metrics
