"""Whole-episode replay against slots' lives that are cut, shuffled, and lose fragments."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.signature import ColumnKey, ColumnSpec, Extent, Role
from learner.experience.episodes import EpisodeSettings, EpisodeStore
from learner.experience.on_policy import NONE, FragmentKey, Segment
from learner.totals import RingCursor

OBSERVATION = ColumnKey(Role.OBSERVATION, "agent")
REWARD = ColumnKey(Role.REWARD, "agent")
IS_FIRST, VALID = ColumnKey(Role.IS_FIRST), ColumnKey(Role.VALID)
EPISODE_END = ColumnKey(Role.EPISODE_END)
FLOAT, BOOL = np.dtype(np.float32), np.dtype(np.bool_)
SPECS = (
    ColumnSpec(OBSERVATION, FLOAT, (2, 3), Extent.ROWS_PLUS_ONE),
    ColumnSpec(REWARD, FLOAT, (2,)),
    *(ColumnSpec(key, BOOL) for key in (IS_FIRST, VALID, EPISODE_END)),
)


@dataclasses.dataclass
class Life:
    """A slot's rows from its first on: episode e, step t of it; a row without a step between."""

    slot: int
    lengths: list[int]

    def fragments(self, rows):
        """(key, columns [T, 1, ...]) of each whole fragment."""
        observed, first, valid, end = [], [], [], []
        for episode, length in enumerate(self.lengths):
            observed += [(self.slot, episode, t) for t in range(length + 1)]
            first += [True, *[False] * length]
            valid += [*[True] * length, False]
            end += [*[False] * (length - 1), True, False]
        observed.append((self.slot, len(self.lengths), 0))
        for start in range(0, len(first) - rows + 1, rows):
            cut = slice(start, start + rows)
            place = np.array(observed[start : start + rows + 1], np.float32)
            yield (
                FragmentKey(0, self.slot, 0, start),
                {
                    OBSERVATION: np.stack([place, place + 0.5], 1)[:, None],
                    REWARD: np.stack([place[:-1, 2], place[:-1, 2] * 10], 1)[:, None],
                    IS_FIRST: np.array(first[cut])[:, None],
                    VALID: np.array(valid[cut])[:, None],
                    EPISODE_END: np.array(end[cut])[:, None],
                },
            )


def segment(columns, finals=None):
    rows, slots, values = finals or (NONE, NONE, {})
    return Segment(columns, rows, slots, values, ())


def store_of(capacity=400, rows=3, longest=9, **others):
    return EpisodeStore(SPECS, EpisodeSettings(capacity, rows, longest), seed=1, **others)


def drawn(store):
    """Every episode that can be drawn, as ((slot, episode), steps, entries)."""
    found = {}
    for rows in store._complete:
        batch = store._gather([rows])
        length = int(batch.mask.sum())
        seen = batch.columns[OBSERVATION][:, 0]
        slot, episode = seen[0, 0, :2].tolist()
        np.testing.assert_array_equal(seen[:, 1], seen[:, 0] + 0.5)
        assert seen[: length + 1, 0, 2].tolist() == list(range(length + 1))
        assert batch.columns[REWARD][:length, 0, 1].tolist() == [10 * t for t in range(length)]
        found[int(slot), int(episode)] = length
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_exactly_the_episodes_whose_fragments_all_came_are_drawn(data):
    rows = data.draw(st.integers(1, 5))
    lengths = st.lists(st.integers(1, 6), min_size=1, max_size=6)
    lives = [Life(slot, data.draw(lengths)) for slot in range(3)]
    queues = [list(life.fragments(rows)) for life in lives]
    lost = {
        (life.slot, i)
        for life, queue in zip(lives, queues, strict=True)
        for i in range(len(queue))
        if data.draw(st.integers(0, 5)) == 0
    }
    store = store_of(rows=rows)
    sampleable, pushed = 0, 0
    positions = [0] * len(lives)
    while any(p < len(q) for p, q in zip(positions, queues, strict=True)):
        turn = data.draw(
            st.sampled_from([i for i, q in enumerate(queues) if positions[i] < len(q)])
        )
        key, columns = queues[turn][positions[turn]]
        if (turn, positions[turn]) not in lost:
            sampleable += store.insert(segment(columns), [key])
            pushed += int(columns[VALID].sum())
        positions[turn] += 1
    expected, start = {}, 0
    for life, queue in zip(lives, queues, strict=True):
        start = 0
        for episode, length in enumerate(life.lengths):
            needed = range(start // rows, (start + length - 1) // rows + 1)
            if all(i < len(queue) and (life.slot, i) not in lost for i in needed):
                expected[life.slot, episode] = length
            start += length + 1
    assert drawn(store) == expected
    assert sampleable == store.size == store.inserted == sum(expected.values())
    still_open = sum(life.length for life in store._open.values())
    assert pushed == sampleable + store.discarded + still_open


def test_shorter_episodes_are_padded_with_their_last_row_and_masked():
    store = store_of(rows=12)
    ((key, columns),) = Life(0, [2, 5, 2]).fragments(12)
    store.insert(segment(columns), [key])
    batch = store._gather([store._complete[0], store._complete[1]])
    assert batch.mask.T.tolist() == [[True, True, False, False, False], [True] * 5]
    seen = batch.columns[OBSERVATION][:, :, 0, 2]
    assert seen.T.tolist() == [[0, 1, 2, 2, 2, 2], [0, 1, 2, 3, 4, 5]]
    assert batch.columns[REWARD][:, 0, 0].tolist() == [0, 1, 1, 1, 1]


def test_final_observations_stand_where_the_last_step_led_to():
    store = store_of(rows=4)
    observed = np.arange(5, dtype=np.float32)[:, None, None, None] * np.ones((5, 1, 2, 3), FLOAT)
    columns = {
        OBSERVATION: observed,
        REWARD: np.zeros((4, 1, 2), FLOAT),
        IS_FIRST: np.array([[1], [0], [1], [0]], BOOL),
        VALID: np.ones((4, 1), BOOL),
        EPISODE_END: np.array([[0], [1], [0], [1]], BOOL),
    }
    finals = np.full((2, 2, 3), 70, FLOAT)
    finals[1] = 80
    where = np.array([1, 3]), np.array([0, 0]), {OBSERVATION: finals}
    assert store.insert(segment(columns, where), [FragmentKey(0, 0, 0, 0)]) == 4
    batch = store._gather(store._complete)
    assert batch.columns[OBSERVATION][:, :, 0, 0].T.tolist() == [[0, 1, 70], [2, 3, 80]]


def test_the_oldest_block_takes_every_episode_that_begins_in_it_along():
    store = store_of(capacity=16, rows=3, longest=4)
    assert store.settings.places == 6
    life = list(Life(0, [4, 4, 4, 4, 4, 4, 4, 4]).fragments(3))
    for key, columns in life:
        store.insert(segment(columns), [key])
        assert store.size == sum(drawn(store).values()) <= 18
        assert store.inserted - store.evicted == store.size
    assert store.evicted > 0
    assert store.discarded == 0


def test_an_open_episode_that_loses_its_first_block_is_discarded():
    store = store_of(capacity=10, rows=2, longest=6)
    (key, columns), *_ = Life(0, [6]).fragments(2)
    store.insert(segment(columns), [key])
    for other, more in list(Life(1, [3] * 5).fragments(2))[:6]:
        store.insert(segment(more), [other])
    assert store.discarded == 2
    assert (0, 0) not in store._open


def test_another_incarnation_begins_anew():
    store = store_of()
    fragments = list(Life(0, [5, 5]).fragments(3))
    store.insert(segment(fragments[0][1]), [fragments[0][0]])
    for key, columns in Life(0, [2, 2]).fragments(3):
        store.insert(segment(columns), [key._replace(incarnation=1)])
    assert store.discarded == 3
    assert set(drawn(store).values()) == {2}


def test_rows_beyond_the_budget_break_their_episode():
    store = store_of(rows=4)
    ((key, columns),) = Life(0, [3]).fragments(4)
    columns[VALID] = np.array([[True], [False], [False], [False]])
    assert store.insert(segment(columns), [key]) == 0
    assert store.discarded == 1


def test_draws_are_alike_for_all_episodes_and_distinct_where_there_are_enough():
    store = store_of()
    for key, columns in Life(0, [2, 3, 4, 5, 6]).fragments(3):
        store.insert(segment(columns), [key])
    counts = np.zeros(5)
    for _ in range(400):
        batch = store.sample(2)
        chosen = batch.columns[OBSERVATION][0, :, 0, 1].astype(int)
        assert len(set(chosen.tolist())) == 2
        counts[chosen] += 1
    assert store.episodes == 5
    assert abs(counts / 800 - 0.2).max() < 0.05  # four standard deviations are 0.049
    assert store.sample(9).mask.shape[1] == 9


def test_files_give_back_every_whole_episode_and_the_open_one(tmp_path):
    fragments = list(Life(0, [4, 7, 3, 5]).fragments(3))
    store = store_of(folder=tmp_path)
    for key, columns in fragments[:4]:
        store.insert(segment(columns), [key])
    cursor, before = store.cursor, drawn(store)
    store.close()
    again = store_of(folder=tmp_path, cursor=cursor)
    assert drawn(again) == before
    for key, columns in fragments[4:]:
        again.insert(segment(columns), [key])
    assert drawn(again) == {(0, e): n for e, n in enumerate([4, 7, 3])} | (
        {(0, 3): 5} if len(fragments) * 3 >= 22 else {}
    )
    assert (again.damaged, again.discarded) == (0, 0)
    again.close()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0, 3, 4), "capacity .0. is not positive"),
        ((9, 3, 4), "no room for an episode of 4 steps; give at least 10"),
    ],
)
def test_settings_that_cannot_work_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        EpisodeSettings(*values)


def test_an_empty_store_has_nothing_to_draw():
    with pytest.raises(ValueError, match="no complete episode"):
        store_of().sample(1)
    assert store_of().cursor == RingCursor()
