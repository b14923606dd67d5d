import numpy as np
import pytest

from common import specs
from common.signature import ColumnKey, ColumnSpec, Role, Signature
from common.spaces import Box, Dict, Discrete
from protos.wiserl.v1 import trajectory_pb2
from sampler.outbox import Outbox, Rolled, slots_per_push

REWARD = ColumnSpec(ColumnKey(Role.REWARD), np.dtype("float32"))


class Slots:
    slots, slots_per_worker = 8, 2

    def __init__(self, observation):
        self.spec = specs.single_agent(observation, Discrete(2))


def box(*shape, dtype="float32"):
    return Box(np.zeros(shape, dtype), np.ones(shape, dtype))


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (box(4), 8),
        (box(256), 8),
        (box(257), 2),
        (box(84, 84, dtype="uint8"), 2),
        (Dict({"near": box(200), "far": box(200)}), 2),
        (Discrete(1000), 8),
    ],
    ids=["vector", "1 KiB", "more", "image", "dict", "discrete"],
)
def test_memory_is_asked_for_more_than_a_worker_only_for_small_rows(observation, expected):
    assert slots_per_push(Slots(observation)) == expected


def rolled(*slots, rows=4, grant_id=1, version=1):
    batch = trajectory_pb2.TrajectoryBatch(version=version, rows=rows)
    for slot in slots:
        batch.slots.add(slot=slot)
    tensor = batch.columns.add(role=int(Role.REWARD)).tensor
    tensor.dtype, tensor.data = 11, bytes(4 * rows * len(slots))
    tensor.shape.extend((rows, len(slots)))
    return Rolled(grant_id, batch)


def pushed(batches, slots_per_push=8):
    """The slots of every push of these batches, one after the other."""
    outbox = Outbox()
    outbox.reset(Signature((), (), (REWARD,)), slots_per_push=slots_per_push, last_sequence=4)
    for batch in batches:
        outbox.add(batch)
    found = []
    while (request := outbox.next("run", "sampler")) is not None:
        assert request.sequence == 5 + len(found)
        outbox.answered()
        found.append([part.slot for part in request.batch.slots])
    assert outbox.fragments == 0
    return found


def test_what_waits_goes_together():
    assert pushed([rolled(0, 2), rolled(1, 3)]) == [[0, 2, 1, 3]]


@pytest.mark.parametrize(
    "other",
    [rolled(1, grant_id=2), rolled(1, version=2), rolled(1, rows=8), rolled(0)],
    ids=["grant", "version", "rows", "slot"],
)
def test_what_differs_goes_alone(other):
    assert len(pushed([rolled(0), other])) == 2


def test_a_push_has_no_more_slots_than_memory_was_set_aside_for():
    assert pushed([rolled(0), rolled(1), rolled(2)], slots_per_push=2) == [[0, 1], [2]]
    assert pushed([rolled(0, 1, 2)], slots_per_push=2) == [[0, 1], [2]]


def test_large_pushes_go_alone():
    assert pushed([rolled(0, rows=200_000), rolled(1, rows=200_000)]) == [[0], [1]]


def test_no_answer_without_a_push():
    with pytest.raises(LookupError, match="none is in flight"):
        Outbox().answered()


def test_the_push_in_flight_is_told_until_it_is_answered():
    outbox = Outbox()
    outbox.reset(Signature((), (), (REWARD,)), slots_per_push=8, last_sequence=4)
    outbox.add(rolled(0))
    assert outbox.pushing == 0
    assert outbox.next("run", "sampler").sequence == outbox.pushing == 5
    outbox.answered()
    assert outbox.pushing == 0
