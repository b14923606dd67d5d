"""The sum tree against a running sum over all of its numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.experience import sum_tree
from learner.experience.sum_tree import SumTree

SIZES = st.sampled_from([1, 2, 15, 16, 17, 100, 256, 257, 1000, 5000, 70_000])


def naive_find(values, targets):
    return np.cumsum(values).searchsorted(targets, "right")


def filled(values):
    tree = SumTree(len(values))
    tree.fill(slice(0, len(values)), values)
    return tree


@settings(deadline=None, max_examples=60)
@given(size=SIZES, seed=st.integers(0, 10**6), zeros=st.floats(0, 0.95), writes=st.integers(0, 6))
def test_it_is_what_its_numbers_are(size, seed, zeros, writes):
    random = np.random.default_rng(seed)
    # Whole numbers: their sums are exact, so that every target has one answer.
    expected = np.zeros(size)
    tree = SumTree(size)
    for write in range(writes + 1):
        if write % 2:
            positions = random.integers(0, size, random.integers(1, 300))
            values = random.integers(0, 100, len(positions)) * (random.random() > zeros)
            tree.put(positions, values.astype(np.float64))
            expected[positions] = values
        else:
            first, end = sorted(random.integers(0, size + 1, 2))
            values = random.integers(0, 100, end - first) * (random.random(end - first) > zeros)
            tree.fill(slice(first, end), values)
            expected[first:end] = values
        assert tree.total == expected.sum()
        assert (tree.get(np.arange(size)) == expected).all()
    if not expected.any():
        with pytest.raises(ValueError, match="nothing but zeros"):
            tree.find(np.zeros(1))
        return
    targets = random.integers(0, 2 * int(expected.sum()), 300) / 2
    for ordered in (targets, np.sort(targets)):
        positions, values = tree.find(ordered)
        assert (positions == naive_find(expected, ordered)).all()
        assert (values == expected[positions]).all()


def test_the_last_of_several_values_for_one_position_counts():
    tree = SumTree(40)
    tree.put(np.array([7, 3, 7]), np.array([1.0, 2.0, 5.0]))
    assert tree.get(np.array([7, 3])).tolist() == [5.0, 2.0]
    assert tree.total == 7.0


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 600), decades=st.floats(0, 250))
def test_a_zero_is_never_found_however_rounding_goes(seed, size, decades):
    random = np.random.default_rng(seed)
    values = 10.0 ** random.uniform(-decades, decades / 2, size) * (random.random(size) < 0.3)
    values[random.integers(0, size)] = 1.0
    tree = filled(values)
    edges = np.cumsum(values)
    around = np.concatenate([edges, np.nextafter(edges, 0.0), edges * (1 - 1e-16), [0.0]])
    positions, found = tree.find(np.sort(around))
    assert (found > 0).all()
    assert (values[positions] == found).all()


def test_a_target_beyond_the_end_finds_the_last_number():
    values = np.array([1.0, 2.0, 0.0, 0.0])
    assert filled(values).find(np.array([3.0, 1e9]))[1].min() > 0


def test_where_rounding_leads_to_a_zero_the_next_number_is_taken():
    tree = filled(np.array([0.0, 1.0, 0.0, 2.0, 0.0]))
    assert tree._nearest(np.array([0, 2, 4])).tolist() == [1, 3, 3]


def test_draws_are_in_proportion():
    random = np.random.default_rng(5)
    values = random.random(500) * (random.random(500) < 0.7)
    draws = 100_000
    targets = np.sort(random.random(draws)) * values.sum()
    counts = np.bincount(filled(values).find(targets)[0], minlength=500)
    expected = draws * values / values.sum()
    there = expected > 0
    assert not counts[~there].any()
    statistic = ((counts - expected)[there] ** 2 / expected[there]).sum()
    freedom = there.sum() - 1
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)


def test_a_tree_of_millions_of_leaves_is_not_deep():
    assert len(SumTree(2_000_000)._levels) == 3
    assert len(SumTree(sum_tree._WIDEST_TOP * 16)._levels) == 1
