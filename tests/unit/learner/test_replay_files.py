"""Replay that lives in files: another store finds what the cursor names, as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_support import POSITION, SPECS, VALID, keys_for, random_segment

from learner.experience.replay import ReplaySettings, ReplayStore
from learner.totals import RingCursor

SETTINGS = ReplaySettings(6 * 4, 4, 0.9, n_step=3, priority_exponent=0.6)


def opened(folder, cursor=RingCursor(), changed=SETTINGS):  # noqa: B008
    return ReplayStore(SPECS, changed, seed=1, folder=folder, cursor=cursor)


def everything(store):
    """What can be drawn, in the order of insertion."""
    batch = store.sample(store.size * 60)
    _, first = np.unique(batch.writes, return_index=True)
    assert len(first) == store.size
    columns = [batch.columns[key][first] for key in batch.columns]
    after = [batch.next_columns[key][first] for key in batch.next_columns]
    return [array.tolist() for array in (*columns, *after, batch.returns[first])]


def dumped(store):
    found = store.dump()
    return found.keys, {key: array.tolist() for key, array in found.columns.items()}


@settings(deadline=None, max_examples=15)
@given(
    pushes=st.lists(st.integers(1, 8), max_size=5),
    same_step=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_it_goes_on_where_it_was(tmp_path_factory, pushes, same_step, seed):
    folder = tmp_path_factory.mktemp("run") / "replay"
    first = opened(folder)
    assert first.is_persistent
    for i, slots in enumerate(pushes):
        segment = random_segment(seed + i, 4, slots, same_step=same_step)
        first.insert(segment, keys_for(slots, first_row=4 * i, sampler=i))
    second = opened(folder, first.cursor)
    assert second.cursor == first.cursor
    assert second.size == first.size == second.inserted
    assert second.damaged == second.evicted == 0
    assert dumped(second) == dumped(first)
    if first.size:
        assert everything(second) == everything(first)
    segment = random_segment(seed + 99, 4, 2, same_step=same_step)
    for store in (first, second):  # it goes on as if nothing had been
        store.insert(segment, keys_for(2, first_row=100))
    assert dumped(second) == dumped(first)
    first.close()
    second.close()


def test_blocks_that_the_cursor_does_not_name_are_not_there(tmp_path):
    first = opened(tmp_path)
    for seed in range(6):
        first.insert(random_segment(seed, 4, 1), keys_for(1, first_row=4 * seed))
    second = opened(tmp_path, RingCursor(5, 3))
    assert [key.first_row for key in second.dump().keys[::4]] == [8, 12, 16]
    assert second.size == second.dump().columns[VALID].sum()


def test_damaged_blocks_are_dropped_and_counted(tmp_path):
    first = opened(tmp_path)
    for seed in range(5):
        first.insert(random_segment(seed, 4, 1), keys_for(1))
    first._ring.columns[POSITION][2] += 1.0
    damaged = int(first.dump().columns[VALID][8:12].sum())
    second = opened(tmp_path, first.cursor)
    assert second.damaged == 1
    assert second.size == first.size - damaged
    # Its place is taken in turn, like any other.
    for seed in range(6):
        second.insert(random_segment(10 + seed, 4, 1), keys_for(1))
    assert second.size == second.dump().columns[VALID].sum()


def test_priorities_outlive_the_process(tmp_path):
    first = opened(tmp_path)
    for seed in range(8):
        first.insert(random_segment(seed, 4, 1), keys_for(1))
    batch = first.sample(200)
    first.update_priorities(batch, np.linspace(0, 9, 200, dtype=np.float32))
    second = opened(tmp_path, first.cursor)
    powers = [
        store._priorities._tree.get(np.arange(store._index.first, store._index.end) % 24)
        for store in (first, second)
    ]
    np.testing.assert_array_equal(*powers)
    assert second._priorities.highest == first._priorities.highest


def test_priorities_that_cannot_be_are_made_new_ones(tmp_path):
    first = opened(tmp_path)
    for seed in range(3):
        first.insert(random_segment(seed, 4, 1), keys_for(1))
    first._kept[:3] = [np.nan, -1.0, np.inf]
    second = opened(tmp_path, first.cursor)
    assert second.damaged == 0
    weights = second.sample(100).weights
    assert (weights == 1.0).all()


def test_windows_are_made_anew_for_other_settings(tmp_path):
    first = opened(tmp_path)
    first.insert(random_segment(0, 4, 2), keys_for(2))
    changed = ReplaySettings(6 * 4, 4, 0.5, n_step=1, priority_exponent=0.6)
    second = opened(tmp_path, first.cursor, changed)
    assert set(second.sample(100).discounts) <= {np.float32(0.5), 0.0}


@pytest.mark.parametrize("seeds", [(0, 1)])
def test_another_beginning_draws_other_rows(tmp_path, seeds):
    first = opened(tmp_path)
    for seed in seeds:
        first.insert(random_segment(seed, 4, 3), keys_for(3))
    second = opened(tmp_path, first.cursor)
    assert first.sample(100).rows.tolist() != second.sample(100).rows.tolist()
