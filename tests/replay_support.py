"""Segments for tests of replay, and what a store must make of them, computed naively."""

import numpy as np

from common.signature import ColumnKey, ColumnSpec, Extent, Role
from learner.experience.columns import FINAL_ROLES
from learner.experience.on_policy import FragmentKey, Segment

POSITION = ColumnKey(Role.OBSERVATION, "", "position")
IMAGE = ColumnKey(Role.OBSERVATION, "", "image")
MASK = ColumnKey(Role.ACTION_MASK)
ACTION = ColumnKey(Role.ACTION)
LOG_PROB = ColumnKey(Role.RECORD, "", "log_prob")
REWARD = ColumnKey(Role.REWARD)
TERMINATED = ColumnKey(Role.TERMINATED)
TRUNCATED = ColumnKey(Role.TRUNCATED)
IS_FIRST = ColumnKey(Role.IS_FIRST)
VALID = ColumnKey(Role.VALID)
EPISODE_END = ColumnKey(Role.EPISODE_END)
STATE = ColumnKey(Role.STATE, "", "h")
FLAGS = (TERMINATED, TRUNCATED, IS_FIRST, VALID, EPISODE_END)

FLOAT, BOOL = np.dtype(np.float32), np.dtype(np.bool_)
SPECS = (
    ColumnSpec(POSITION, FLOAT, (3,), Extent.ROWS_PLUS_ONE),
    ColumnSpec(IMAGE, np.dtype(np.uint8), (2, 2, 1), Extent.ROWS_PLUS_ONE),
    ColumnSpec(MASK, BOOL, (3,), Extent.ROWS_PLUS_ONE),
    ColumnSpec(ACTION, np.dtype(np.int64)),
    ColumnSpec(LOG_PROB, FLOAT),
    ColumnSpec(REWARD, FLOAT),
    *(ColumnSpec(key, BOOL) for key in FLAGS),
    ColumnSpec(STATE, FLOAT, (2,), Extent.INITIAL),
)


def random_segment(seed, rows, slots, *, same_step=True, specs=SPECS, end_share=0.2):
    """A segment full of random values; episodes end in the same step or leave an invalid row."""
    random = np.random.default_rng(seed)
    columns = {}
    for spec in specs:
        shape = spec.extent.leading(rows, slots) + spec.shape
        if spec.dtype == np.float32:
            columns[spec.key] = random.normal(size=shape).astype(np.float32)
        else:
            top = 2 if spec.dtype == np.bool_ else 200
            columns[spec.key] = random.integers(0, top, shape).astype(spec.dtype)
    kind = np.where(
        random.random((rows, slots)) < end_share, random.integers(1, 4, (rows, slots)), 0
    )
    columns[VALID] = random.random((rows, slots)) > 0.1
    if not same_step:
        kind[1:][kind[:-1] > 0] = 0
        columns[VALID][1:][kind[:-1] > 0] = False
    columns[TERMINATED] = (kind & 1 > 0) & columns[VALID]
    columns[TRUNCATED] = (kind & 2 > 0) & columns[VALID]
    ended = columns[TERMINATED] | columns[TRUNCATED]
    columns[EPISODE_END] = ended
    final_rows, final_slots = np.nonzero(ended & same_step)
    finals = {
        spec.key: random.integers(0, 2 if spec.dtype == np.bool_ else 99, shape).astype(spec.dtype)
        for spec in specs
        if spec.key.role in FINAL_ROLES
        for shape in [(len(final_rows), *spec.shape)]
    }
    return Segment(columns, final_rows, final_slots, finals, [])


def keys_for(slots, first_row=0, sampler=0):
    return [FragmentKey(sampler, slot, 0, first_row) for slot in range(slots)]


def naive_transitions(segment, slot, *, gamma, n_step, clip=False):
    """Every transition of a fragment, one after the other, as a dict each."""
    columns = segment.columns
    rows = len(columns[VALID])
    finals = {
        (row, position): i
        for i, (row, position) in enumerate(
            zip(segment.final_rows.tolist(), segment.final_slots.tolist(), strict=True)
        )
    }
    found = []
    for t in range(rows):
        if not columns[VALID][t, slot]:
            continue
        total, m = 0.0, 0
        while m < n_step and t + m < rows and columns[VALID][t + m, slot]:
            reward = float(columns[REWARD][t + m, slot])
            total += gamma**m * (np.sign(reward) if clip else reward)
            m += 1
            if columns[TERMINATED][t + m - 1, slot] or columns[TRUNCATED][t + m - 1, slot]:
                break
        last = t + m - 1
        following = {
            key: segment.final_columns[key][finals[last, slot]]
            if (last, slot) in finals and key in segment.final_columns
            else columns[key][t + m, slot]
            for key in (POSITION, IMAGE, MASK)
            if key in columns
        }
        found.append(
            {
                "t": t,
                "return": total,
                "discount": 0.0 if columns[TERMINATED][last, slot] else gamma**m,
                "next": following,
            }
        )
    return found
