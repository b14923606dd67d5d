"""Replay of several agents: each draw is a step of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from replay_support import keys_for, random_segment

from common.signature import ColumnKey, ColumnSpec, Extent, Role
from learner.experience.replay import ReplaySettings, ReplayStore

BOOL, FLOAT = np.dtype(np.bool_), np.dtype(np.float32)
GROUPS = {"walker": 2, "scout": 1}


def key(role, group=""):
    return ColumnKey(role, group)


SPECS = (
    *(
        ColumnSpec(key(Role.OBSERVATION, g), FLOAT, (n, 3), Extent.ROWS_PLUS_ONE)
        for g, n in GROUPS.items()
    ),
    *(ColumnSpec(key(Role.ALIVE, g), BOOL, (n,), Extent.ROWS_PLUS_ONE) for g, n in GROUPS.items()),
    *(ColumnSpec(key(Role.ACTION, g), np.dtype(np.int64), (n,)) for g, n in GROUPS.items()),
    *(
        ColumnSpec(key(role, g), FLOAT if role == Role.REWARD else BOOL, (n,))
        for role in (Role.REWARD, Role.TERMINATED, Role.TRUNCATED)
        for g, n in GROUPS.items()
    ),
    *(ColumnSpec(key(role), BOOL) for role in (Role.IS_FIRST, Role.VALID, Role.EPISODE_END)),
)


def segment_of(seed, rows=5, slots=3):
    """Random values; agents end whenever, and a fifth of the rows is invalid."""
    random = np.random.default_rng(seed)
    single = (
        ColumnSpec(key(Role.TERMINATED), BOOL),
        ColumnSpec(key(Role.TRUNCATED), BOOL),
        *(each for each in SPECS if each.key.role not in {Role.TERMINATED, Role.TRUNCATED}),
    )
    segment = random_segment(seed, rows, slots, same_step=False, specs=single)
    for each in SPECS:
        if each.key.role in {Role.TERMINATED, Role.TRUNCATED}:
            segment.columns[each.key] = random.random((rows, slots, *each.shape)) < 0.4
    segment.columns[key(Role.VALID)] = random.random((rows, slots)) < 0.8
    return segment


def store_of(**settings):
    given = {"capacity": 30, "block_rows": 5, "gamma": 0.9, **settings}
    folder = given.pop("folder", None)
    cursor = {"cursor": given.pop("cursor")} if "cursor" in given else {}
    return ReplayStore(SPECS, ReplaySettings(**given), seed=1, folder=folder, **cursor)


def check(store, segments, *, clip=False):
    """Every draw is a valid row of the segments, with all that belongs to it."""
    naive = {}
    for segment in segments:
        for row, slot in np.argwhere(segment.columns[key(Role.VALID)]):
            naive[segment.columns[key(Role.OBSERVATION, "scout")][row, slot].tobytes()] = (
                segment.columns,
                row,
                slot,
            )
    assert store.size == len(naive)
    batch = store.sample(300)
    seen = batch.columns[key(Role.OBSERVATION, "scout")]
    assert {one.tobytes() for one in seen} == set(naive)
    for i, one in enumerate(seen):
        columns, row, slot = naive[one.tobytes()]
        for group in GROUPS:
            assert batch.columns[key(Role.ACTION, group)][i].tolist() == (
                columns[key(Role.ACTION, group)][row, slot].tolist()
            )
            for role in (Role.OBSERVATION, Role.ALIVE):
                for found, at in ((batch.columns, row), (batch.next_columns, row + 1)):
                    assert (found[key(role, group)][i] == columns[key(role, group)][at, slot]).all()
        rewards, terminated = (
            np.concatenate([columns[key(role, group)][row, slot] for group in GROUPS])
            for role in (Role.REWARD, Role.TERMINATED)
        )
        np.testing.assert_array_equal(batch.returns[i], np.sign(rewards) if clip else rewards)
        # A truncated agent bootstraps, a terminated one does not.
        np.testing.assert_allclose(batch.discounts[i], np.where(terminated, 0.0, 0.9))


@pytest.mark.parametrize("clip", [False, True])
def test_what_is_drawn_is_a_step_of_all_agents(clip):
    store = store_of(clip_rewards=clip)
    segments = [segment_of(0), segment_of(1)]
    for first, segment in enumerate(segments):
        valid = int(segment.columns[key(Role.VALID)].sum())
        assert store.insert(segment, keys_for(3, 5 * first)) == valid
    check(store, segments, clip=clip)


def test_the_oldest_blocks_make_room():
    store = store_of(capacity=15)
    for first in range(3):
        store.insert(segment_of(first), keys_for(3, 5 * first))
    check(store, [segment_of(2)])


def test_files_give_them_back(tmp_path):
    store = store_of(folder=tmp_path)
    store.insert(segment_of(0), keys_for(3))
    cursor = store.cursor
    store.close()
    check(store_of(folder=tmp_path, cursor=cursor), [segment_of(0)])


def test_priorities_are_of_steps():
    store = store_of(priority_exponent=1.0)
    store.insert(segment_of(0), keys_for(3))
    batch = store.sample(200)
    store.update_priorities(batch, (batch.rows == 0).astype(np.float32))
    assert (store.sample(100).rows == 0).mean() > 0.9


def test_windows_of_several_steps_are_refused():
    with pytest.raises(ValueError, match=r"n_step \(3\) is above 1, and there are several agents"):
        store_of(n_step=3)
