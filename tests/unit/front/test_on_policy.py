"""The store of a round: the same bits whatever the order of arrival, cut to the budget."""

import random

import numpy as np
import pytest
from front_support import (
    COLUMNS,
    EPISODE_END,
    MEMORY,
    OBSERVATION,
    SIGNATURE,
    VALID,
    Part,
    make_batch,
    make_columns,
)
from hypothesis import given
from hypothesis import strategies as st

from learner.experience.columns import final_columns
from learner.experience.on_policy import FragmentKey, OnPolicyStore
from learner.front.admission import Admission
from protos.wiserl.v1 import trajectory_pb2

ROWS = 3


def batch_of(parts, *, finals=()):
    """A batch with a final observation (all 9s and row) for each (row, position) in `finals`."""
    batch = make_batch(1, parts, ROWS)
    if finals:
        values = np.array([[9, 9, parts[slot].slot, row] for row, slot in finals], np.float32)
        batch.final_observations.rows.extend(row for row, _ in finals)
        batch.final_observations.slots.extend(slot for _, slot in finals)
        batch.final_observations.columns.extend(
            make_columns({OBSERVATION: values}, final_columns(COLUMNS))
        )
    return batch


def write(store, index, positions, batch):
    keys = [FragmentKey(index, part.slot, part.incarnation, part.first_row) for part in batch.slots]
    return store.write(positions, keys, Admission(SIGNATURE).segment(batch))


def opened(n_envs, version=1):
    store = OnPolicyStore(COLUMNS)
    store.open(version, n_envs=n_envs, n_steps=ROWS)
    return store


def digest(batch):
    """Everything of a batch, comparable bit for bit."""
    columns = {str(key): array.tobytes() for key, array in batch.columns.items()}
    finals = {str(key): array.tobytes() for key, array in batch.final_columns.items()}
    return (
        columns,
        batch.final_rows.tolist(),
        batch.final_slots.tolist(),
        finals,
        [episode.SerializeToString(deterministic=True) for episode in batch.episodes],
        batch.steps,
    )


PUSHES = [  # (index of the sampler, positions as dealt, batch)
    (0, [0, 1], [Part(0, 0, 0, ends=(0, 2)), Part(1, 0, 0)], [(0, 0)]),
    (0, [2], [Part(2, 6, 1, ends=(1,))], [(1, 0)]),
    (1, [3, 5], [Part(0, 3, 7, ends=(2,)), Part(2, 0, 7, ends=(0, 1))], [(1, 1), (0, 1)]),
    (1, [4], [Part(1, 0, 7, invalid=(1,))], []),
]


def closed(order, budget=10**6):
    store = opened(6)
    for push in order:
        index, positions, parts, finals = PUSHES[push]
        write(store, index, positions, batch_of(parts, finals=finals))
    return store.close(budget)


def test_a_round_by_hand():
    batch = closed([0, 1, 2, 3])
    slots, incarnations, rows = (batch.columns[OBSERVATION][0, :, i].tolist() for i in range(3))
    assert slots == [0, 1, 2, 0, 1, 2]
    assert incarnations == [0, 0, 1, 7, 7, 7]
    assert rows == [0, 0, 6, 3, 0, 0]
    assert batch.columns[OBSERVATION].shape == (ROWS + 1, 6, 4)
    assert batch.columns[MEMORY].tolist() == [[0, 0], [1, 0], [2, 1], [0, 7], [1, 7], [2, 7]]
    assert batch.steps == 17
    assert list(zip(batch.final_slots, batch.final_rows, strict=True)) == [
        (0, 0),
        (2, 1),
        (5, 0),
        (5, 1),
    ]
    assert batch.final_columns[OBSERVATION][:, 2:].tolist() == [[0, 0], [2, 1], [2, 0], [2, 1]]
    ended = [(episode.slot, episode.incarnation, episode.end_row) for episode in batch.episodes]
    assert ended == [(0, 0, 0), (0, 0, 2), (2, 1, 7), (0, 7, 5), (2, 7, 0), (2, 7, 1)]


@given(st.permutations(range(4)), st.integers(0, 18))
def test_the_order_of_arrival_leaves_no_trace(order, budget):
    assert digest(closed(order, budget)) == digest(closed([0, 1, 2, 3], budget))


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_nor_does_who_rolled_which_position(order, positions):
    """Fragments that were dealt again come from elsewhere; the order is that of their keys."""
    parts = [Part(slot, first, base) for base in (0, 7) for slot, first in ((0, 0), (0, 3), (1, 0))]
    store, straight = opened(6), opened(6)
    for i in order:
        write(store, parts[i].incarnation, [positions[i]], batch_of([parts[i]]))
    for i, part in enumerate(parts):
        write(straight, part.incarnation, [i], batch_of([part]))
    assert digest(store.close(100)) == digest(straight.close(100))


@given(st.integers(0, 20))
def test_the_budget_is_cut_by_slot_then_row(budget):
    whole, cut = closed([0, 1, 2, 3]), closed([3, 2, 1, 0], budget)
    in_order = whole.columns[VALID].T.reshape(-1)
    kept = cut.columns[VALID].T.reshape(-1)
    assert cut.steps == np.count_nonzero(kept) == min(budget, 17)
    assert kept.tolist() == (in_order & (np.cumsum(in_order) <= budget)).tolist()
    assert (cut.columns[EPISODE_END] == whole.columns[EPISODE_END]).all()
    assert cut.columns[VALID][cut.final_rows, cut.final_slots].all()
    within = (whole.columns[EPISODE_END] & cut.columns[VALID]).sum()
    assert len(cut.episodes) == within


def test_a_batch_without_ends_has_empty_finals():
    store = opened(1)
    write(store, 0, [0], batch_of([Part(0)]))
    batch = store.close(100)
    assert batch.final_rows.shape == batch.final_slots.shape == (0,)
    assert batch.final_columns[OBSERVATION].shape == (0, 4)
    assert batch.episodes == []


def test_missing_fragments_do_not_close():
    store = opened(2)
    write(store, 0, [1], batch_of([Part(1)]))
    with pytest.raises(ValueError, match="1 of 2"):
        store.close(100)


def test_a_batch_outlives_the_next_round():
    store = opened(1)
    write(store, 0, [0], batch_of([Part(0)]))
    first = store.close(100)
    before = digest(first)
    store.open(2, n_envs=1, n_steps=ROWS)
    write(store, 0, [0], batch_of([Part(0, 3, 5, ends=(1,))]))
    second = store.close(100)
    assert digest(first) == before
    assert second.version == 2
    assert second.columns[OBSERVATION][0, 0].tolist() == [0, 5, 3, 0.5]


def test_the_shape_may_change_between_rounds():
    store = opened(1)
    write(store, 0, [0], batch_of([Part(0)]))
    store.close(100)
    store.open(2, n_envs=2, n_steps=ROWS)
    write(store, 0, [0, 1], batch_of([Part(0, 3), Part(1)]))
    assert store.close(100).columns[VALID].shape == (ROWS, 2)


def test_nothing_of_a_message_is_kept():
    """Episodes and final values are copies: a part of a message would keep all of it alive."""
    store = opened(1)
    batch = batch_of([Part(0, ends=(0,))], finals=[(0, 0)])
    write(store, 0, [0], batch)
    expected = trajectory_pb2.Episode()
    expected.CopyFrom(batch.episodes[0])
    batch.Clear()
    closed_round = store.close(100)
    assert closed_round.episodes == [expected]
    assert closed_round.final_columns[OBSERVATION].base is None or (
        closed_round.final_columns[OBSERVATION].flags.owndata
        or closed_round.final_columns[OBSERVATION].base.flags.owndata
    )


def test_arrival_in_shuffled_single_fragments():
    parts = [Part(slot, 3 * lap) for slot in range(8) for lap in range(2)]
    shuffled = list(range(16))
    random.Random(7).shuffle(shuffled)  # noqa: S311 - any order, but always the same
    store = opened(16)
    for i in shuffled:
        write(store, 0, [i], batch_of([parts[i]]))
    batch = store.close(1000)
    found = [(int(slot), int(row)) for slot, _, row, _ in batch.columns[OBSERVATION][0]]
    assert found == [(part.slot, part.first_row) for part in parts]
