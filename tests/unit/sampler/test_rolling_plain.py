"""Rows of plain environments, which are reset one step late, exactly as the contract says."""

from __future__ import annotations

import itertools

import numpy as np
import pool_environments
import pool_models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_rolls import config, ready, roll

from sampler.environments.observations import WrongObservationError
from sampler.inline_pool import InlinePool
from sampler.seeding import SlotIdentity


@pytest.fixture
def pool(request):
    made = InlinePool(config("Counting", envs_per_worker=2, **getattr(request, "param", {})))
    ready(made, pool_models.uniform_choice)
    yield made
    made.close()


def test_every_column_of_a_segment_over_episode_ends(pool):
    # Episode 0 has 3 steps and terminates, episode 1 has 4 and is cut off.
    rolled = roll(pool, 10)
    slot = {name: array[:, 0].tolist() for name, array in rolled.columns.items()}
    o = [[e, s] for e, s, _ in slot["observation"]]
    #    first       step    step    last    first   step    step    step    last    first   step
    assert o == [
        [0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1], [1, 2], [1, 3], [1, 4], [2, 0], [2, 1]
    ]  # fmt: skip
    t, f = True, False
    assert slot["valid"] == [t, t, t, f, t, t, t, t, f, t]
    assert slot["is_first"] == [t, f, f, f, t, f, f, f, f, t]
    assert slot["terminated"] == [f, f, t, f, f, f, f, f, f, f]
    assert slot["truncated"] == [f, f, f, f, f, f, f, t, f, f]
    assert slot["episode_end"] == [f, f, t, f, f, f, f, t, f, f]
    rewards = [0.1, 1.1, 2.1, 0, 1.1, 2.1, 3.1, 4.1, 0, 2.1]
    assert slot["reward"] == np.array(rewards, np.float32).tolist()
    # The observation after a step tells the action that caused it; the reset row's is ignored.
    for row in (0, 1, 2, 4, 5, 6, 7, 9):
        assert slot["observation"][row + 1][2] == slot["action"][row]
    np.testing.assert_array_equal(rolled["action"], (rolled["record/noise"] * 4).astype(np.int64))


def test_the_dtypes_and_shapes_are_the_signatures(pool):
    rolled = roll(pool, 4)
    assert {name: (array.dtype.name, array.shape) for name, array in rolled.columns.items()} == {
        "observation": ("float32", (5, 2, 3)),
        "action": ("int64", (4, 2)),
        "reward": ("float32", (4, 2)),
        "terminated": ("bool", (4, 2)),
        "truncated": ("bool", (4, 2)),
        "is_first": ("bool", (4, 2)),
        "valid": ("bool", (4, 2)),
        "episode_end": ("bool", (4, 2)),
        "record/noise": ("float32", (4, 2)),
    }
    assert rolled.batch.rows == 4
    assert rolled.batch.version == 1
    assert not rolled.batch.HasField("final_observations")


def test_finished_episodes_are_told_in_raw_rewards_and_true_steps(pool):
    rolled = roll(pool, 10)
    of_slot_0 = [episode for episode in rolled.episodes if episode.slot == 0]
    assert len(rolled.episodes) == 4
    first, second = of_slot_0
    assert first.episode_return == pytest.approx(3.3, abs=1e-12)  # beyond float32
    assert second.episode_return == pytest.approx(10.4, abs=1e-12)
    assert [episode.length for episode in of_slot_0] == [3, 4]
    assert [episode.end_row for episode in of_slot_0] == [2, 7]
    assert [episode.terminated for episode in of_slot_0] == [True, False]
    assert dict(first.metrics) == {"is_success": 1.0, "steps": 3.0}
    assert dict(second.metrics) == {"is_success": 0.0, "steps": 4.0}


@settings(max_examples=25)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_cutting_a_life_into_segments_changes_nothing(lengths):
    """Also where an episode ends with a segment's last row, or a reset row is its first."""
    total = sum(lengths)
    pools = [InlinePool(config("Counting", envs_per_worker=2)) for _ in range(2)]
    for pool in pools:
        ready(pool, pool_models.uniform_choice)
    whole = roll(pools[0], total)
    parts = [roll(pools[1], length) for length in lengths]
    for name, expected in whole.columns.items():
        if name == "observation":
            joined = np.concatenate([part[name][:-1] for part in parts] + [parts[-1][name][-1:]])
            for before, after in itertools.pairwise(parts):
                np.testing.assert_array_equal(before[name][-1], after[name][0])
        else:
            joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(joined, expected, err_msg=name)
    episodes = [episode for part in parts for episode in part.episodes]
    by_place = {(one.slot, one.end_row): one for one in episodes}
    assert len(by_place) == len(episodes)
    for episode in whole.episodes:
        other = by_place.pop((episode.slot, episode.end_row))
        assert other.episode_return == pytest.approx(episode.episode_return, abs=1e-12)
        assert (other.length, other.terminated) == (episode.length, episode.terminated)
    assert not by_place
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    assert [part.batch.slots[0].first_row for part in parts] == starts


def test_slots_that_are_not_asked_idle():
    pool = InlinePool(config("Counting", envs_per_worker=4))
    ready(pool, pool_models.uniform_choice)
    first = roll(pool, 5, slots=(1, 3))
    everyone = roll(pool, 5)
    assert [part.slot for part in first.batch.slots] == [1, 3]
    assert [part.first_row for part in everyone.batch.slots] == [0, 5, 0, 5]
    # The idle ones begin as the others began, the others go on.
    assert everyone["observation"][0, :, :2].tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]
    assert everyone["is_first"][0].tolist() == [True, False, True, False]
    assert everyone["observation"][5, :, :2].tolist() == [[1, 1], [2, 1], [1, 1], [2, 1]]


def test_a_slots_data_does_not_depend_on_who_rolls_it_with_whom():
    together = InlinePool(config("Seeded", envs_per_worker=4))
    apart = InlinePool(config("Seeded", envs_per_worker=1, workers=4))
    for pool in (together, apart):
        ready(pool, pool_models.uniform_choice, seed=5)
    whole = roll(together, 40)
    for slot in range(4):
        alone = roll(apart, 40, worker=slot)
        for name, array in whole.columns.items():
            np.testing.assert_array_equal(array[:, slot], alone[name][:, 0], err_msg=name)


def test_slots_are_spread_over_workers():
    pool = InlinePool(config("Counting", envs_per_worker=3, workers=2))
    ready(pool, pool_models.uniform_choice)
    rolled = roll(pool, 2, worker=1)
    assert [part.slot for part in rolled.batch.slots] == [1, 3, 5]


def test_environments_are_seeded_as_the_contract_says():
    pool = InlinePool(config("Seeded", envs_per_worker=2))
    signature, model = pool_models.uniform_choice(pool.spec)
    pool.configure(pool_models.registration(signature, seed=9, index=4, incarnation=7))
    pool.set_policy(1, model, None)
    rolled = roll(pool, 1)
    assert [part.incarnation for part in rolled.batch.slots] == [7, 7]
    for slot in range(2):
        environment = pool_environments.Seeded()
        seed = SlotIdentity(9, 4, slot, 7).environment_seed()
        expected, _ = environment.reset(seed=seed)
        np.testing.assert_array_equal(rolled["observation"][0, slot], expected)


def test_a_new_registration_begins_every_life_anew(pool):
    before = roll(pool, 5)
    ready(pool, pool_models.uniform_choice)
    again = roll(pool, 5)
    for name, array in before.columns.items():
        np.testing.assert_array_equal(array, again[name])
    assert again.batch.slots[0].first_row == 0


def test_noise_follows_the_version():
    pool = InlinePool(config("Counting"))
    ready(pool, pool_models.uniform_choice, version=1)
    one = roll(pool, 3)
    ready(pool, pool_models.uniform_choice, version=2)
    two = roll(pool, 3)
    assert two.batch.version == 2
    assert (one["record/noise"] != two["record/noise"]).all()


def test_a_step_limit_of_gymnasium_truncates():
    pool = InlinePool(config("Limited-v0"))
    assert pool.spec.max_episode_steps == 2
    ready(pool, pool_models.uniform_choice)
    rolled = roll(pool, 3)
    assert rolled["truncated"][:, 0].tolist() == [False, True, False]
    assert not rolled["terminated"].any()


def test_float64_observations_are_cast():
    pool = InlinePool(config("Counting", dtype="float64"))
    assert pool.spec.agent.observation.dtype == np.float64
    ready(pool, pool_models.uniform_choice)
    assert roll(pool, 4)["observation"].dtype == np.float32


def test_nested_dict_observations_and_multi_discrete_actions():
    pool = InlinePool(config("Nested", envs_per_worker=2))
    ready(pool, lambda spec: pool_models.constant(spec, [1, 2, 0, 1], pool_models.INT))
    rolled = roll(pool, 3)
    assert rolled["observation/body/speed"][:, 1].tolist() == [
        [0.5, 0],
        [1.5, -1],
        [2.5, -2],
        [3.5, -3],
    ]
    assert rolled["observation/body/speed"].dtype == np.float32
    assert rolled["observation/body/gear"][:, 0].tolist() == [1, 2, 3, 4]
    assert rolled["observation/image"].dtype == np.uint8
    assert rolled["observation/image"][2].tolist() == [[[[2], [2]], [[2], [2]]]] * 2
    assert rolled["observation/flags"][3, 0].tolist() == [[1, 0], [0, 1]]
    assert rolled["observation/grid"][2, 0].tolist() == [2, 1, 2, 3]
    assert rolled["action"][0].tolist() == [[1, 2, 0, 1]] * 2
    assert rolled["reward"].tolist() == [[1, 1]] * 3


def test_continuous_actions_take_the_spaces_dtype_and_are_the_environments_own():
    pool = InlinePool(config("Boxed", envs_per_worker=2))
    ready(pool, lambda spec: pool_models.constant(spec, [[0.5, -1]], pool_models.FLOAT))
    rolled = roll(pool, 3)
    assert rolled["action"][2].tolist() == [[[0.5, -1]]] * 2  # the environment wrote into its copy
    assert rolled["observation"][3].tolist() == [[1, -2]] * 2


@pytest.mark.parametrize("where", ["info", "observation"])
def test_action_masks_are_fed_and_recorded(where):
    pool = InlinePool(config("Masked", where=where))
    ready(pool, lambda spec: pool_models.first_available(spec, 3))
    rolled = roll(pool, 7)
    available = [0, 1, 2, 0, 1, 2, 0, 1]  # of step s; row 5 is the reset, then it begins again
    expected = np.eye(3, dtype=bool)[[*available[:6], 0, 1]]
    np.testing.assert_array_equal(rolled["action_mask"][:, 0], expected)
    assert rolled["action"][:5, 0].tolist() == available[:5]


def test_recurrent_state_is_fed_back_reset_and_recorded_at_the_start():
    pool = InlinePool(config("Counting", envs_per_worker=3))
    ready(pool, pool_models.recurrent_counter)
    pool.set_scalars([pool_models.learner_pb2.Scalar(key="epsilon", values=[0.25, 0.5, 0.75])])
    first, second, third = roll(pool, 2), roll(pool, 4, slots=(0, 2)), roll(pool, 1)
    # Episode 0: rows 0 to 2, row 3 is the reset, episode 1 from row 4.
    assert first["record/counted"][:, 0].tolist() == [[10, 20], [11, 21]]
    assert second["record/counted"][:, 0].tolist() == [[12, 22], [13, 23], [10, 20], [11, 21]]
    assert first["state/count"].tolist() == [[10, 20]] * 3
    assert second["state/count"].tolist() == [[12, 22]] * 2
    assert third["state/count"].tolist() == [[12, 22], [12, 22], [12, 22]]
    assert third["record/counted"][0].tolist() == [[12, 22], [12, 22], [12, 22]]
    assert first["record/epsilon"][0].tolist() == [0.25, 0.5, 0.75]
    assert second["record/epsilon"][0].tolist() == [0.25, 0.75]


def test_one_scalar_is_for_every_slot():
    pool = InlinePool(config("Counting", envs_per_worker=3))
    ready(pool, pool_models.recurrent_counter)
    pool.set_scalars([pool_models.learner_pb2.Scalar(key="epsilon", values=[0.125])])
    assert roll(pool, 1)["record/epsilon"].tolist() == [[0.125] * 3]


def test_nan_rewards_and_returns_pass():
    pool = InlinePool(config("Broken", how="nan"))
    ready(pool, pool_models.uniform_choice)
    rolled = roll(pool, 8)
    assert np.isnan(rolled["reward"][:7]).all()
    assert np.isnan(rolled.episodes[0].episode_return)


def test_an_observation_of_the_wrong_shape_is_never_broadcast():
    pool = InlinePool(config("Broken", how="shape", at=2))
    ready(pool, pool_models.uniform_choice)
    with pytest.raises(WrongObservationError, match=r"shape \(1,\), its space says \(3,\)"):
        roll(pool, 3)
