"""Prioritised replay: chances, weights, and what becomes of priorities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_support import POSITION, SPECS, VALID, keys_for, random_segment

from learner.experience.replay import ReplaySettings, ReplayStore

LEAST = 1e-6


def store_of(capacity=64, rows=4, *, alpha=0.6, seed=3):
    return ReplayStore(
        SPECS, ReplaySettings(capacity, rows, 0.9, priority_exponent=alpha), seed=seed
    )


def filled(blocks=10, **others):
    store = store_of(**others)
    for seed in range(blocks):
        store.insert(random_segment(seed, 4, 1), keys_for(1))
    return store


def every_row(store):
    """A batch in which every resident row stands once."""
    batch = store.sample(store.size * 40)
    _, first = np.unique(batch.rows, return_index=True)
    assert len(first) == store.size
    return pick(batch, first)


def pick(batch, chosen):
    take = {name: getattr(batch, name)[chosen] for name in ("rows", "writes")}
    return type(batch)(
        **take,
        columns={key: array[chosen] for key, array in batch.columns.items()},
        next_columns={},
        returns=batch.returns[chosen],
        discounts=batch.discounts[chosen],
        weights=batch.weights[chosen],
    )


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_chances_are_the_powers_of_priorities(alpha):
    store = filled(alpha=alpha)
    rows = every_row(store)
    priorities = np.random.default_rng(0).exponential(1.0, store.size).astype(np.float32)
    store.update_priorities(rows, priorities)
    chances = (priorities.astype(np.float64) + LEAST) ** alpha
    chances /= chances.sum()
    draws = 400 * store.size
    counts = np.zeros(store.size)
    for _ in range(400):
        batch = store.sample(store.size, beta=0.5)
        np.add.at(counts, np.searchsorted(rows.rows, batch.rows), 1)
        # Chances of a batch, by rows that ascend, and its weights over the largest.
        weights = (store.size * chances[np.searchsorted(rows.rows, batch.rows)]) ** -0.5
        np.testing.assert_allclose(batch.weights, weights / weights.max(), rtol=1e-5)
    # Stratified draws spread less than independent ones.
    assert (np.abs(counts - draws * chances) < 5 * np.sqrt(draws * chances) + 5).all()
    statistic = ((counts - draws * chances) ** 2 / (draws * chances)).sum()
    assert statistic < store.size + 4 * np.sqrt(2 * store.size)


def test_one_draw_from_each_part_of_the_sum():
    store = filled(alpha=1.0)
    rows = every_row(store)
    store.update_priorities(rows, np.ones(store.size, np.float32))
    assert (store.sample(store.size).rows == np.sort(rows.rows)).all()


def test_new_rows_have_the_highest_priority_so_far():
    store = filled(blocks=2, alpha=1.0)
    rows = every_row(store)
    store.update_priorities(rows, np.full(store.size, 50.0, np.float32))
    store.update_priorities(rows, np.full(store.size, 1e-3, np.float32))
    before = store.size
    segment = random_segment(9, 4, 1)
    added = store.insert(segment, keys_for(1))
    share = added * 50.0 / (added * 50.0 + before * 1e-3)
    new = {value.tobytes() for value in segment.columns[POSITION][:4, 0]}
    drawn = [value.tobytes() in new for value in store.sample(2000).columns[POSITION]]
    assert np.mean(drawn) == pytest.approx(share, abs=2e-3)


def test_an_error_of_zero_does_not_bury_a_row():
    store = filled(blocks=1)
    rows = every_row(store)
    store.update_priorities(rows, np.zeros(store.size, np.float32))
    assert set(store.sample(100).rows) == set(rows.rows)


def test_rows_overwritten_since_are_left_alone():
    store = store_of(capacity=8, rows=4, alpha=1.0)
    segments = [random_segment(seed, 4, 1) for seed in range(3)]
    for segment in segments[:2]:
        store.insert(segment, keys_for(1))
    old = every_row(store)
    store.insert(segments[2], keys_for(1))
    kept = int(segments[1].columns[VALID].sum())
    store.update_priorities(old, np.full(len(old.rows), 1e6, np.float32))
    batch = store.sample(3000)
    second = {value.tobytes() for value in segments[1].columns[POSITION][:4, 0]}
    drawn = np.array([value.tobytes() in second for value in batch.columns[POSITION]])
    assert np.mean(drawn) > 0.99
    assert len(set(batch.rows[drawn])) == kept
    assert set(batch.writes) <= set(range(store.evicted, store.inserted))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=15), st.integers(0, 10**6))
def test_only_resident_valid_rows_are_drawn(pushes, seed):
    store = store_of(capacity=5 * 4)
    random = np.random.default_rng(seed)
    for i, slots in enumerate(pushes):
        store.insert(random_segment(seed + i, 4, slots), keys_for(slots))
        if not store.size:
            continue
        batch = store.sample(100, beta=0.4)
        dump = store.dump()
        resident = {value.tobytes() for value in dump.columns[POSITION][dump.columns[VALID]]}
        assert {value.tobytes() for value in batch.columns[POSITION]} <= resident
        assert (batch.writes >= store.evicted).all()
        assert (batch.writes < store.inserted).all()
        assert batch.weights.max() == 1.0
        store.update_priorities(batch, random.exponential(5.0, 100).astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_priorities_that_are_none_are_refused(bad):
    store = filled(blocks=2)
    batch = store.sample(3)
    with pytest.raises(ValueError, match="absolute temporal-difference errors"):
        store.update_priorities(batch, np.array([1.0, bad, 2.0], np.float32))
    assert np.isfinite(store.sample(3).weights).all()


def test_uniform_sampling_has_no_priorities():
    store = ReplayStore(SPECS, ReplaySettings(16, 4, 0.9), seed=0)
    store.insert(random_segment(0, 4, 2), keys_for(2))
    store.update_priorities(store.sample(4), np.full(4, np.nan, np.float32))
    assert (store.sample(4, beta=0.5).weights == 1.0).all()


def test_an_exponent_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"priority_exponent \(1.5\)"):
        ReplaySettings(8, 4, 0.9, priority_exponent=1.5)
