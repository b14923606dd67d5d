"""The queue of segments, and the batches that its fragments are gathered into."""

from __future__ import annotations

import dataclasses

import numpy as np
from front_support import COLUMNS, EPISODE_END, MEMORY, OBSERVATION, VALID, Part, column_arrays

from learner.experience.on_policy import NONE, FragmentKey, Segment
from learner.experience.segment_queue import NOBODY, BatchBuffer, SegmentQueue


def segment(parts, rows=3):
    return Segment(column_arrays(parts, rows), NONE, NONE, {}, [(0, "an episode")])


def keys_of(parts, sampler=0):
    return [FragmentKey(sampler, part.slot, part.incarnation, part.first_row) for part in parts]


def queue_of(*versions, capacity=100, slots=2, rows=3):
    """A queue with a segment of each version; rows go on from one to the next."""
    queue = SegmentQueue(capacity)
    for number, version in enumerate(versions):
        parts = [Part(slot, number * rows) for slot in range(slots)]
        queue.put(segment(parts, rows), keys_of(parts), version)
    return queue


def test_what_came_first_goes_first_and_once():
    queue = queue_of(1, 2)
    assert [each.version for each in queue.take(3)] == [1, 1, 2]
    assert len(queue) == 1
    assert [(each.version, each.key.slot, each.position) for each in queue.take(3)] == [(2, 1, 1)]
    assert queue.take(3) == []


def test_any_room_is_enough():
    queue = queue_of(1, capacity=3)
    assert queue.has_room()
    parts = [Part(slot) for slot in range(5)]
    queue.put(segment(parts), keys_of(parts), 1)
    assert len(queue) == 7
    assert not queue.has_room()
    queue.take(5)
    assert queue.has_room()


def test_what_is_too_old_is_taken_out_wherever_it_stands():
    queue = queue_of(3, 1, 4)
    assert [each.version for each in queue.drop(lambda version: version < 3)] == [1, 1]
    assert [each.version for each in queue.take(9)] == [3, 3, 4, 4]
    assert queue.drop(lambda version: True) == []


def test_episodes_are_not_kept():
    (fragment, _) = queue_of(1).take(2)
    assert fragment.segment.episodes == ()


def test_a_batch_has_fragments_of_several_segments_side_by_side():
    queue = queue_of(1, 2)
    queue.take(1)
    taken = queue.take(3)
    batch = BatchBuffer(COLUMNS, rows=3, fragments=3).gather(taken)
    observed = batch.columns[OBSERVATION]
    assert observed.shape == (4, 3, 4)
    assert observed[0, :, 0].tolist() == [1, 0, 1]
    assert observed[:, :, 2].T.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [3, 4, 5, 6]]
    assert batch.columns[MEMORY].tolist() == [[1, 0], [0, 0], [1, 0]]
    assert batch.keys == [FragmentKey(0, 1, 0, 0), FragmentKey(0, 0, 0, 3), FragmentKey(0, 1, 0, 3)]
    assert (batch.steps, batch.version, batch.episodes) == (9, 1, [])


def test_a_short_fragment_is_filled_up_with_rows_that_are_no_steps():
    queue = queue_of(1, slots=1)
    short = [Part(7, 0, ends=(1,))]
    queue.put(segment(short, rows=2), keys_of(short), 2)
    buffer = BatchBuffer(COLUMNS, rows=3, fragments=2)
    for array in buffer._columns.values():
        array[...] = 1
    taken = queue.take(2)
    assert [each.rows for each in taken] == [3, 2]
    batch = buffer.gather(taken)
    assert batch.columns[VALID].T.tolist() == [[True] * 3, [True, True, False]]
    assert batch.columns[EPISODE_END].T.tolist() == [[False] * 3, [False, True, False]]
    # The observation after its last row is there to bootstrap from.
    assert batch.columns[OBSERVATION][:, 1, 2].tolist() == [0, 1, 2, 0]
    assert batch.steps == 5


def test_a_batch_that_is_not_full_has_places_of_nobody():
    batch = BatchBuffer(COLUMNS, rows=3, fragments=4).gather(queue_of(5).take(4))
    assert batch.columns[VALID].any(0).tolist() == [True, True, False, False]
    assert not batch.columns[OBSERVATION][:, 2:].any()
    assert batch.keys[2:] == [NOBODY, NOBODY]


def test_final_observations_go_with_their_fragments():
    parts = [Part(slot) for slot in range(4)]
    with_finals = dataclasses.replace(
        segment(parts),
        final_rows=np.array([0, 2, 1, 0]),
        final_slots=np.array([0, 1, 2, 3]),
        final_columns={OBSERVATION: np.arange(16, dtype=np.float32).reshape(4, 4)},
    )
    with_finals.columns[VALID][1, 2] = False
    queue = SegmentQueue(9)
    queue.put(with_finals, keys_of(parts), 1)
    buffer = BatchBuffer(COLUMNS, rows=3, fragments=3)
    queue.put(segment([Part(9)]), keys_of([Part(9)]), 1)
    queue.take(1)
    batch = buffer.gather([queue.take(4)[-1], *queue_of(1, slots=1).take(1)])
    assert batch.final_rows.size == 0
    queue.put(with_finals, keys_of(parts), 1)
    queue.take(1)
    batch = buffer.gather(queue.take(3))
    # That of slot 2 is of a row that is no step.
    assert batch.final_rows.tolist() == [2, 0]
    assert batch.final_slots.tolist() == [0, 2]
    assert batch.final_columns[OBSERVATION][:, 0].tolist() == [4, 12]
