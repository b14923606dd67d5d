"""Running moments, normalised observations and scaled rewards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from learner.experience.on_policy import FragmentKey
from learner.experience.segment_queue import NOBODY
from learner.networks.normalisation import (
    BoundedNormaliser,
    ObservationNormaliser,
    ObservationStatistics,
    RewardScaler,
    RunningMoments,
    SlotReturns,
)


def test_moments_merged_in_parts_are_those_of_the_whole():
    rows = np.random.default_rng(0).normal(1000.0, 3.0, (50, 2)).astype(np.float32)
    moments = RunningMoments((2,))
    for part in (rows[:7], rows[7:7], rows[7:8], rows[8:]):
        moments.update(part)
    np.testing.assert_allclose(moments.mean, rows.mean(0, dtype=np.float64))
    np.testing.assert_allclose(moments.variance, rows.var(0, dtype=np.float64))
    assert moments.count == 50


def scaled(scaler, rewards):
    """Rewards [T, B] of an episode that goes on."""
    flags = np.zeros(rewards.shape, np.bool_)
    return scaler.scale(rewards, flags, ~flags)


def test_before_any_data_nothing_changes():
    normaliser = ObservationNormaliser(2)
    observations = torch.tensor([[1.5, -2.5]])
    assert torch.equal(normaliser(observations), observations)


def test_normalised_observations_stay_within_ten():
    normaliser = ObservationNormaliser(1)
    statistics = ObservationStatistics(normaliser)
    statistics.take_in(np.array([[1.0], [3.0]], np.float32))
    found = normaliser(torch.tensor([[2.0], [3.0], [100.0], [-100.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.0], [1.0], [10.0], [-10.0]]))


def test_a_bounded_normaliser_has_the_moments_of_the_rows_that_count():
    rows = np.random.default_rng(0).normal(1000.0, 3.0, (50, 2)).astype(np.float32)
    normaliser, expected = BoundedNormaliser(2), RunningMoments((2,))
    for start, counted in ((0, 30), (30, 1), (31, 19)):
        rubbish = np.full((5, 2), np.float32(1e6))
        part = np.concatenate([rows[start : start + counted], rubbish])
        weights = torch.arange(len(part)) < counted
        normaliser.update(torch.from_numpy(part), weights)
        expected.update(rows[start : start + counted])
    np.testing.assert_allclose(normaliser.mean, expected.mean)
    np.testing.assert_allclose(normaliser.variance, expected.variance)
    assert normaliser.count == expected.count == 50


def test_a_bounded_normaliser_keeps_order_and_stays_within_one():
    normaliser = BoundedNormaliser(1)
    assert normaliser(torch.tensor([[3.0], [-1.0]])).tolist() == [[0.75], [-0.5]]
    normaliser.update(torch.tensor([[4.0], [8.0]]), torch.ones(2))
    found = normaliser(torch.tensor([[6.0], [8.0], [2.0], [1e9]]))
    torch.testing.assert_close(found, torch.tensor([[0.0], [0.5], [-2.0 / 3.0], [1.0]]))
    still = BoundedNormaliser(1)
    still.update(torch.full((9, 1), 7.0), torch.ones(9))
    assert still(torch.tensor([[7.0]])).item() == 0.0


def test_rewards_are_divided_by_the_deviation_of_the_running_return():
    scaler = RewardScaler(0.5)
    rewards = np.array([[2.0], [4.0], [7.0], [2.0]], np.float32)
    ended = np.array([[0], [1], [0], [0]], np.bool_)
    valid = np.array([[1], [1], [0], [1]], np.bool_)
    scaler.update(rewards, ended, valid)
    # Returns 2, 0.5 * 2 + 4 = 5, the end, not a step, 2: variance 2.
    found = scaled(scaler, np.array([[2.0], [100.0], [-100.0]], np.float32))
    np.testing.assert_allclose(found[:, 0], [2.0 / np.sqrt(2.0), 10.0, -10.0], rtol=1e-6)


def test_the_first_round_is_scaled_with_its_own_statistics():
    scaler, later = RewardScaler(0.5), RewardScaler(0.5)
    rewards = np.array([[200.0], [400.0], [700.0], [200.0]], np.float32)
    ended = np.array([[0], [1], [0], [0]], np.bool_)
    valid = np.array([[1], [1], [0], [1]], np.bool_)
    found = scaler.scale(rewards, ended, valid)
    # Returns 200, 0.5 * 200 + 400 = 500, the end, not a step, 200: variance 20,000.
    np.testing.assert_allclose(found[:2, 0], [200 / np.sqrt(2e4), 400 / np.sqrt(2e4)], rtol=1e-6)
    # Scaling takes nothing in: the round counts once, when it is taken in.
    scaler.update(rewards, ended, valid)
    later.update(rewards, ended, valid)
    assert scaler.tensors()["count"] == 3
    assert np.array_equal(scaled(scaler, rewards), scaled(later, rewards))


def test_the_running_return_goes_on_in_the_next_round():
    whole, parts = RewardScaler(0.9), RewardScaler(0.9)
    generator = np.random.default_rng(0)
    rewards = generator.standard_normal((20, 3)).astype(np.float32)
    ended = generator.random((20, 3)) < 0.1
    valid = np.ones((20, 3), np.bool_)
    whole.update(rewards, ended, valid)
    for rows in (slice(0, 8), slice(8, 20)):
        parts.update(rewards[rows], ended[rows], valid[rows])
    probe = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(scaled(whole, probe), scaled(parts, probe), rtol=1e-6)


def test_another_number_of_environments_starts_new_returns():
    scaler = RewardScaler(0.9)
    for slots in (2, 3):
        shape = (4, slots)
        scaler.update(np.ones(shape, np.float32), np.zeros(shape, bool), np.ones(shape, bool))
    assert scaler.tensors()["running"].shape == (3,)


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_restored_scaler_goes_on_as_the_first(rounds):
    first, second = RewardScaler(0.9), RewardScaler(0.9)
    rewards = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    flags = np.zeros((5, 2), np.bool_)
    for _ in range(rounds):
        first.update(rewards, flags, ~flags)
    second.load_tensors({name: tensor.clone() for name, tensor in first.tensors().items()})
    for scaler in (first, second):
        scaler.update(rewards, flags, ~flags)
    assert np.array_equal(scaled(first, rewards), scaled(second, rewards))


def slot_sums(fragments, *, incarnations=None):
    """The sums of fragments of slot 0, (first row, rewards) each, a batch for each of them."""
    running = SlotReturns(0.5)
    found = []
    for number, (first, rewards) in enumerate(fragments):
        column = np.array(rewards, np.float32)[:, None]
        none = np.zeros(column.shape, np.bool_)
        incarnation = incarnations[number] if incarnations else 0
        key = FragmentKey(0, 0, incarnation, first)
        found.append(running.sums(column, none, ~none, [key])[:, 0].tolist())
    return found


def test_the_return_of_a_slot_goes_on_from_fragment_to_fragment():
    assert slot_sums([(0, (1, 1)), (2, (1, 1))]) == [[1.0, 1.5], [1.75, 1.875]]


def test_a_missing_fragment_or_another_life_starts_the_return_over():
    assert slot_sums([(0, (1, 1)), (4, (1, 1))])[1] == [1.0, 1.5]
    assert slot_sums([(0, (1, 1)), (2, (1, 1))], incarnations=[0, 1])[1] == [1.0, 1.5]


def test_fragments_of_one_slot_in_one_batch_follow_each_other():
    keys = [FragmentKey(0, 0, 0, 2), FragmentKey(1, 0, 0, 0), FragmentKey(0, 0, 0, 0)]
    rewards = np.array([[1, 8, 1], [1, 8, 1]], np.float32)
    none = np.zeros((2, 3), np.bool_)
    found = SlotReturns(0.5).sums(rewards, none, ~none, keys)
    assert found.T.tolist() == [[1.75, 1.875], [8.0, 12.0], [1.0, 1.5]]


def test_places_of_nobody_have_no_return():
    valid = np.array([[True, False], [True, False]])
    keys = [FragmentKey(0, 0, 0, 0), NOBODY]
    ones = np.ones((2, 2), np.float32)
    found = SlotReturns(0.5).sums(ones, np.zeros((2, 2), np.bool_), valid, keys)
    assert found.T.tolist() == [[1.0, 1.5], [0.0, 0.0]]
