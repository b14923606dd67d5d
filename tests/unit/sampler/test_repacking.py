import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common import tensors
from common.signature import ColumnKey, ColumnSpec, Extent, Role, Signature
from protos.wiserl.v1 import trajectory_pb2
from sampler.repacking import join, split

FLOAT = np.dtype("float32")
SIGNATURE = Signature(
    inputs=(),
    outputs=(),
    columns=(
        ColumnSpec(ColumnKey(Role.OBSERVATION), FLOAT, (2,), Extent.ROWS_PLUS_ONE),
        ColumnSpec(ColumnKey(Role.REWARD), FLOAT),
        ColumnSpec(ColumnKey(Role.STATE, key="h"), FLOAT, (3,), Extent.INITIAL),
    ),
)
ROWS = 4


def batch_of(slots, ends):
    """A batch whose numbers all differ; `ends` are (row, position) of episodes that ended."""
    batch = trajectory_pb2.TrajectoryBatch(version=3, rows=ROWS)
    for slot in slots:
        batch.slots.add(slot=slot, incarnation=1, first_row=10 * slot)
    start = 0
    for spec in SIGNATURE.columns:
        shape = (*spec.extent.leading(ROWS, len(slots)), *spec.shape)
        size = int(np.prod(shape))
        column = batch.columns.add(role=int(spec.key.role), key=spec.key.key)
        values = np.arange(start, start + size, dtype=np.float32).reshape(shape)
        column.tensor.CopyFrom(tensors.encode(values))
        start += size
    for row, position in ends:
        batch.final_observations.rows.append(row)
        batch.final_observations.slots.append(position)
        batch.episodes.add(slot=slots[position], incarnation=1, end_row=10 * slots[position] + row)
    if ends:
        column = batch.final_observations.columns.add(role=int(Role.OBSERVATION))
        values = np.arange(2 * len(ends), dtype=np.float32).reshape(len(ends), 2)
        column.tensor.CopyFrom(tensors.encode(values))
    return batch


def read(batches):
    """What batches say, by slot, wherever it stands."""
    found = {}
    for batch in batches:
        columns = [tensors.decode(column.tensor) for column in batch.columns]
        for position, part in enumerate(batch.slots):
            values = [columns[0][:, position], columns[1][:, position], columns[2][position]]
            final = batch.final_observations
            finals = {
                row: tensors.decode(final.columns[0].tensor)[i].tolist()
                for i, (row, slot) in enumerate(zip(final.rows, final.slots, strict=True))
                if slot == position
            }
            episodes = [e.end_row for e in batch.episodes if e.slot == part.slot]
            where = (batch.version, batch.rows, part.incarnation, part.first_row)
            found[part.slot] = (where, [v.tolist() for v in values], finals, episodes)
    return found


@given(st.integers(1, 7), st.integers(1, 7), st.data())
def test_parts_say_what_the_batch_said(slots, at_most, data):
    cells = st.tuples(st.integers(0, ROWS - 1), st.integers(0, slots - 1))
    ends = data.draw(st.lists(cells, unique=True, max_size=5))
    batch = batch_of([2 * i + 1 for i in range(slots)], ends)
    parts = split(batch, SIGNATURE, at_most)
    assert all(1 <= len(part.slots) <= at_most for part in parts)
    assert [s.slot for part in parts for s in part.slots] == [s.slot for s in batch.slots]
    assert read(parts) == read([batch])
    assert read([join(parts, SIGNATURE)]) == read([batch])


def test_a_part_without_final_observations_has_none():
    left, right = split(batch_of([0, 1], [(2, 1)]), SIGNATURE, 1)
    assert not left.HasField("final_observations")
    assert list(right.final_observations.slots) == [0]
