"""The replay store: what is drawn is what was pushed, from rows that are there."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_support import (
    ACTION,
    IMAGE,
    LOG_PROB,
    MASK,
    POSITION,
    REWARD,
    SPECS,
    TERMINATED,
    TRUNCATED,
    VALID,
    keys_for,
    naive_transitions,
    random_segment,
)

from common.signature import ColumnKey, ColumnSpec, Role
from learner.experience.on_policy import FragmentKey, Segment
from learner.experience.replay import ReplaySettings, ReplayStore
from learner.totals import RingCursor


def store_of(capacity=64, rows=4, *, gamma=0.9, **others):
    return ReplayStore(SPECS, ReplaySettings(capacity, rows, gamma, **others), seed=3)


def valid_rows(segment):
    return int(segment.columns[VALID].sum())


def all_of(store):
    """Every transition of a store, by what its observation is."""
    batch = store.sample(store.size * 30)
    found = {}
    for i in range(len(batch.rows)):
        found[batch.columns[POSITION][i].tobytes()] = i
    return batch, found


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 9),
    slots=st.integers(1, 4),
    n_step=st.integers(1, 12),
    clip=st.booleans(),
    same_step=st.booleans(),
)
def test_what_is_drawn_is_what_a_naive_loop_finds(*, seed, rows, slots, n_step, clip, same_step):
    segment = random_segment(seed, rows, slots, same_step=same_step)
    store = store_of(64, rows, n_step=n_step, clip_rewards=clip)
    assert store.insert(segment, keys_for(slots)) == valid_rows(segment) == store.size
    if not store.size:
        return
    batch, found = all_of(store)
    expected = {
        segment.columns[POSITION][each["t"], slot].tobytes(): (slot, each)
        for slot in range(slots)
        for each in naive_transitions(segment, slot, gamma=0.9, n_step=n_step, clip=clip)
    }
    assert set(found) <= set(expected)
    assert len(found) >= 0.9 * len(expected)
    for observation, i in found.items():
        slot, each = expected[observation]
        for key in (ACTION, LOG_PROB, IMAGE, MASK):
            assert (batch.columns[key][i] == segment.columns[key][each["t"], slot]).all()
        for key, value in each["next"].items():
            assert (batch.next_columns[key][i] == value).all()
        assert batch.returns[i] == pytest.approx(each["return"], rel=1e-5, abs=1e-6)
        assert batch.discounts[i] == pytest.approx(each["discount"], rel=1e-6)
        assert batch.weights[i] == 1.0


def test_the_columns_of_a_batch_and_their_types():
    store = store_of()
    store.insert(random_segment(0, 4, 2), keys_for(2))
    batch = store.sample(5)
    assert set(batch.columns) == {POSITION, IMAGE, MASK, ACTION, LOG_PROB}
    assert set(batch.next_columns) == {POSITION, IMAGE, MASK}
    assert batch.columns[IMAGE].shape == (5, 2, 2, 1)
    assert batch.columns[IMAGE].dtype == np.uint8
    for array in (batch.returns, batch.discounts, batch.weights):
        assert array.dtype == np.float32
        assert array.shape == (5,)
        assert array.flags.c_contiguous


@settings(deadline=None, max_examples=40)
@given(
    pushes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    places=st.integers(1, 7),
    seed=st.integers(0, 10**6),
)
def test_the_oldest_blocks_make_room(pushes, places, seed):
    rows = 3
    store = store_of(places * rows, rows, n_step=2)
    blocks = []
    for i, slots in enumerate(pushes):
        segment = random_segment(seed + i, rows, slots)
        keys = keys_for(slots, first_row=i * rows)
        assert store.insert(segment, keys) == valid_rows(segment)
        blocks += [
            (key, segment.columns[POSITION][:rows, j], segment.columns[VALID][:, j])
            for j, key in enumerate(keys)
        ]
        there = blocks[-places:]
        assert store.cursor == RingCursor(len(blocks), len(there))
        assert store.size == sum(int(valid.sum()) for _, _, valid in there)
        assert store.inserted == sum(int(valid.sum()) for _, _, valid in blocks)
        assert store.evicted == store.inserted - store.size
        dump = store.dump()
        assert dump.keys == [
            FragmentKey(*key[:3], key.first_row + t) for key, _, _ in there for t in range(rows)
        ]
        assert (dump.columns[POSITION] == np.concatenate([values for _, values, _ in there])).all()
        if store.size:
            drawn = {value.tobytes() for value in store.sample(200).columns[POSITION]}
            resident = {
                value.tobytes()
                for _, values, valid in there
                for value, is_valid in zip(values, valid, strict=True)
                if is_valid
            }
            assert drawn <= resident


def test_room_is_made_before_it_is_taken():
    store = store_of(5 * 4, 4)
    store.insert(random_segment(0, 4, 4), keys_for(4))
    assert store.make_room(1) == RingCursor(4, 4)
    assert store.make_room(3) == RingCursor(4, 2)
    assert store.size == sum(store.dump().columns[VALID])
    store.insert(random_segment(1, 4, 3), keys_for(3))
    assert store.cursor == RingCursor(7, 5)


def test_every_valid_row_is_equally_likely():
    store = store_of(40, 4)
    for seed in range(15):
        store.insert(random_segment(seed, 4, 1), keys_for(1))
    draws = 200 * store.size
    _, counts = np.unique(store.sample(draws).columns[POSITION][:, 0], return_counts=True)
    assert len(counts) == store.size
    # Chi-square: mean size - 1, standard deviation sqrt(2 (size - 1)); the seed is fixed.
    statistic = ((counts - 200) ** 2 / 200).sum()
    assert abs(statistic - (store.size - 1)) < 3.5 * np.sqrt(2 * (store.size - 1))


def test_the_same_seed_draws_the_same():
    first, second = store_of(), store_of()
    for store in (first, second):
        store.insert(random_segment(0, 4, 5), keys_for(5))
    assert (first.sample(50).rows == second.sample(50).rows).all()
    assert (first.sample(50).rows != first.sample(50).rows).any()


def test_pushes_of_another_shape_are_refused():
    store = store_of()
    with pytest.raises(ValueError, match="a block has 4 rows"):
        store.insert(random_segment(0, 5, 1), keys_for(1))
    with pytest.raises(ValueError, match="2 keys"):
        store.insert(random_segment(0, 4, 1), keys_for(2))
    with pytest.raises(ValueError, match="no valid row"):
        store.sample(1)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"capacity": 0}, r"capacity \(0\)"),
        ({"block_rows": 0}, r"block_rows \(0\)"),
        ({"n_step": 0}, r"n_step \(0\)"),
        ({"gamma": 1.5}, r"gamma \(1.5\)"),
        ({"priority_exponent": -1.0}, r"priority_exponent \(-1.0\)"),
        ({"capacity": 2**31}, "32 bits"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed, match):
    with pytest.raises(ValueError, match=match):
        ReplaySettings(**{"capacity": 8, "block_rows": 4, "gamma": 0.9, **changed})


def test_columns_that_windows_are_made_of_must_be_there_once():
    specs = [spec for spec in SPECS if spec.key != REWARD]
    with pytest.raises(ValueError, match="role reward: none"):
        ReplayStore(specs, ReplaySettings(8, 4, 0.9), seed=0)
    other = ColumnSpec(ColumnKey(Role.REWARD, "", "other"), np.dtype(np.float32))
    with pytest.raises(ValueError, match=r"reward \[\], reward/other \[\]"):
        ReplayStore([*SPECS, other], ReplaySettings(8, 4, 0.9), seed=0)


def numbered(first, rows, slots):
    """A segment in which every value of a row is its number, from `first` on, slot after slot."""
    numbers = first + np.arange(rows + 1)[:, None] + np.arange(slots)[None] * (rows + 1)
    columns = random_segment(0, rows, slots).columns
    columns[POSITION] = np.repeat(numbers[..., None], 3, axis=2).astype(np.float32)
    columns[ACTION] = numbers[:rows]
    columns[REWARD] = numbers[:rows].astype(np.float32)
    columns[VALID] = np.ones((rows, slots), np.bool_)
    columns[TERMINATED] = columns[TRUNCATED] = np.zeros((rows, slots), np.bool_)
    nothing = np.empty(0, np.int64)
    return Segment(columns, nothing, nothing, {}, [])


@pytest.mark.parametrize("alpha", [None, 0.6])
def test_one_thread_inserts_while_another_draws(alpha):
    store = store_of(capacity=10 * 8, rows=8, priority_exponent=alpha)
    store.insert(numbered(0, 8, 4), keys_for(4))

    def insert():
        for push in range(1, 300):
            store.insert(numbered(36 * push, 8, 4), keys_for(4))

    inserting = threading.Thread(target=insert)
    inserting.start()
    draws = 0
    while inserting.is_alive() or not draws:
        batch = store.sample(32)
        number = batch.columns[ACTION].astype(np.float32)
        assert (batch.columns[POSITION] == number[:, None]).all()
        assert (batch.next_columns[POSITION] == number[:, None] + 1).all()
        assert (batch.returns == number).all()
        store.update_priorities(batch, np.ones(32, np.float32))
        draws += 1
    inserting.join()
    assert store.inserted == 300 * 32
    assert store.size == 80


def test_a_push_that_is_larger_than_the_store():
    store = store_of(capacity=3 * 4)
    store.insert(random_segment(0, 4, 1), keys_for(1))
    segment = random_segment(1, 4, 8)
    assert store.insert(segment, keys_for(8)) == valid_rows(segment)
    assert store.cursor == RingCursor(9, 3)
    assert [key.slot for key in store.dump().keys[::4]] == [5, 6, 7]
    assert store.inserted - store.evicted == store.size


def test_its_memory_is_known_beforehand():
    store = store_of(capacity=1000, rows=10)
    entry, row = (
        3 * 4 + 4 + 3,
        8 + 4 + 4 + 5,
    )  # position, image, mask; action, record, reward, flags
    per_place = 11 * entry + 10 * row + 2 * 4 + 4 * 8 + 10 + 8  # initial state, key, finals, count
    assert store.bytes_when_full == 100 * per_place + 1000 * 16
    tree = store_of(capacity=1000, rows=10, priority_exponent=0.6)
    assert 0 < tree.bytes_when_full - store.bytes_when_full < 1000 * 9
