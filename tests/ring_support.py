"""A ring in files that is pushed to as a learner does it, and what must be found in it later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from replay_support import SPECS, keys_for, random_segment

from learner.experience.replay import ReplaySettings, ReplayStore
from learner.header import MappedHeader
from learner.totals import SamplerTotals

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 4
SETTINGS = ReplaySettings(ROWS * 7, ROWS, 0.9, n_step=3)
SAMPLER = "sampler-0001"


def pushed(sequence):
    """The push of a sequence: two to four fragments, now and then one with final observations."""
    slots = 2 + sequence % 3
    segment = random_segment(sequence, ROWS, slots, same_step=sequence % 4 == 0)
    return segment, keys_for(slots, first_row=sequence * ROWS)


def open_header(folder: Path) -> MappedHeader:
    folder.mkdir(exist_ok=True)
    path = folder / "header.bin"
    return MappedHeader.open(path) if path.exists() else MappedHeader.create(path)


def open_store(folder: Path, header: MappedHeader, **others) -> ReplayStore:
    cursor = header.totals.ring
    return ReplayStore(SPECS, SETTINGS, seed=1, folder=folder / "replay", cursor=cursor, **others)


def last_sequence(header: MappedHeader) -> int:
    return header.totals.samplers.get(SAMPLER, SamplerTotals()).sequence


def push(header: MappedHeader, store: ReplayStore, sequence: int) -> None:
    """The protocol; with its last line the push may be acknowledged."""
    segment, keys = pushed(sequence)
    totals = header.totals
    totals.ring = store.make_room(len(keys))
    header.commit()
    steps = store.insert(segment, keys)
    totals.ring = store.cursor
    totals.samplers[SAMPLER] = SamplerTotals(sequence, totals.rows)
    totals.environment_steps += steps
    header.commit()


def transitions(store):
    """All that could be drawn, in the order of insertion."""
    numbers = np.arange(store._index.first, store._index.end)
    return store._gather(numbers % store._index.capacity, numbers, np.ones(len(numbers)))


def check(header: MappedHeader, store: ReplayStore) -> None:
    """That exactly the pushes up to the last sequence are there, as far as the cursor goes."""
    expected = ReplayStore(SPECS, SETTINGS, seed=1)
    for sequence in range(1, last_sequence(header) + 1):
        expected.insert(*pushed(sequence))
    assert header.totals.environment_steps == expected.inserted
    assert header.totals.ring.written == expected.cursor.written
    assert store.cursor == header.totals.ring
    expected._evict(expected.cursor.resident - store.cursor.resident)
    assert store.damaged == 0
    assert store.dump().keys == expected.dump().keys
    found, wanted = transitions(store), transitions(expected)
    assert found.returns.tolist() == wanted.returns.tolist()
    assert found.discounts.tolist() == wanted.discounts.tolist()
    for key, values in wanted.columns.items():
        np.testing.assert_array_equal(found.columns[key], values)
    for key, values in wanted.next_columns.items():
        np.testing.assert_array_equal(found.next_columns[key], values)
