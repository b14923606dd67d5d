"""What is rolled and not yet answered: pushes in order, one in flight, each with a sequence."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import TYPE_CHECKING

from common.logging import Logger
from common.spaces import leaves
from protos.wiserl.v1 import learner_pb2
from sampler.repacking import join, split

if TYPE_CHECKING:
    from collections.abc import Collection

    from common.signature import Signature
    from protos.wiserl.v1 import trajectory_pb2
    from sampler.pool import Pool


_SMALL_BYTES = 2**20
"""Pushes of up to so many bytes take about as long as an empty one: what waits is put together."""


_SMALL_ROW_BYTES = 1024


def slots_per_push(pool: Pool) -> int:
    """For how many slots in one push the learner is to set memory aside.

    Those of one worker, since they come together; where observations are small, those of all
    workers, since small pushes that wait are put together.
    """
    row_bytes = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize * len(group.agents)
        for group in pool.spec.groups
        for leaf in leaves(group.observation).values()
    )
    return pool.slots if row_bytes <= _SMALL_ROW_BYTES else pool.slots_per_worker


@dataclasses.dataclass(frozen=True)
class Rolled:
    """A batch and the grant under which it was rolled."""

    grant_id: int
    batch: trajectory_pb2.TrajectoryBatch

    @property
    def slots(self) -> tuple[int, ...]:
        """The numbers of its slots: one fragment each."""
        return tuple(part.slot for part in self.batch.slots)

    @property
    def row_count(self) -> int:
        """T x B."""
        return self.batch.rows * len(self.batch.slots)

    def fits(self, other: Rolled) -> bool:
        """Whether both may be one batch."""
        return (
            self.grant_id == other.grant_id
            and self.batch.version == other.batch.version
            and self.batch.rows == other.batch.rows
            and not set(self.slots) & set(other.slots)
        )


class Outbox:
    """Batches to push. It is bounded by whoever fills it, by `fragments`.

    Attributes:
        sequence: The last one used, or known to be used.
        rows_dropped: Rows that were rolled and that no learner took; those that a `reset` drops
            count after it.
    """

    def __init__(self) -> None:
        self.sequence = 0
        self.rows_dropped = 0
        self._signature: Signature | None = None
        self._slots_per_push = 0
        self._queue: collections.deque[Rolled] = collections.deque()
        self._current: tuple[Rolled, learner_pb2.PushTrajectoriesRequest] | None = None

    def reset(self, signature: Signature, *, slots_per_push: int, last_sequence: int) -> None:
        """Begins a registration without anything to push.

        What waits was rolled under incarnations that are over: the learner would refuse it. So it
        is dropped, and counted, as is a push in flight that the learner does not have. The sequence
        of that one is left out, and by the gap the learner knows that a push was lost.

        Args:
            signature: Of the registration.
            slots_per_push: The most slots that one push may have.
            last_sequence: The last one that the learner has.
        """
        self.rows_dropped = 0
        if self._current is not None and self.sequence > last_sequence:
            self.rows_dropped = self._current[0].row_count
        self._current = None
        self.clear()
        if self.rows_dropped:
            Logger().warning("rows_dropped", rows=self.rows_dropped, why="registered again")
        self._signature = signature
        self._slots_per_push = slots_per_push
        self.sequence = max(self.sequence, last_sequence)

    @property
    def fragments(self) -> int:
        """How many fragments wait for an answer, the push in flight included."""
        waiting = sum(len(rolled.batch.slots) for rolled in self._queue)
        return waiting + (len(self._current[0].batch.slots) if self._current else 0)

    @property
    def pushing(self) -> int:
        """The sequence of the push in flight; 0 for none."""
        return self.sequence if self._current else 0

    def add(self, rolled: Rolled) -> None:
        """Puts a batch behind the others, in parts where pushes of its size were too large."""
        self._queue.extend(self._parts(rolled))

    def _parts(self, rolled: Rolled) -> list[Rolled]:
        if self._signature is None or len(rolled.batch.slots) <= self._slots_per_push:
            return [rolled]
        parts = split(rolled.batch, self._signature, self._slots_per_push)
        return [Rolled(rolled.grant_id, part) for part in parts]

    def next(self, run_id: str, sampler_id: str) -> learner_pb2.PushTrajectoriesRequest | None:
        """The push in flight, the same object until it is answered; else the next, if any."""
        if self._current is None and self._queue:
            rolled = self._first()
            self.sequence += 1
            request = learner_pb2.PushTrajectoriesRequest(
                run_id=run_id,
                sampler_id=sampler_id,
                sequence=self.sequence,
                grant_id=rolled.grant_id,
            )
            # Not through the constructor, which serialises and parses what it is given.
            request.batch.CopyFrom(rolled.batch)
            self._current = rolled, request
        return self._current[1] if self._current else None

    def _first(self) -> Rolled:
        """Takes out the first batch, put together with those behind it that may go with it."""
        first = self._queue.popleft()
        taken = [first]
        slots, size = len(first.slots), first.batch.ByteSize()
        while self._queue and all(self._queue[0].fits(rolled) for rolled in taken):
            slots += len(self._queue[0].slots)
            size += self._queue[0].batch.ByteSize()
            if slots > self._slots_per_push or size > _SMALL_BYTES:
                break
            taken.append(self._queue.popleft())
        if len(taken) == 1 or self._signature is None:
            return first
        return Rolled(first.grant_id, join([rolled.batch for rolled in taken], self._signature))

    def answered(self, *, sent: bool = True) -> Rolled:
        """Takes out the push in flight, whose final answer has come.

        Args:
            sent: False where it never left this process: the next push takes its sequence.

        Raises:
            LookupError: There is none.
        """
        if self._current is None:
            raise LookupError("a push was answered, but none is in flight")
        rolled, self._current = self._current[0], None
        if not sent:
            self.sequence -= 1
        return rolled

    def split(self, rolled: Rolled) -> bool:
        """Puts a batch that was too large back before the others, in halves; later ones as small.

        Answers False where it is of one slot, which cannot be split.
        """
        slots = len(rolled.batch.slots)
        if slots == 1:
            return False
        self._slots_per_push = (slots + 1) // 2
        Logger().info("push_split", slots=slots, slots_per_push=self._slots_per_push)
        self._queue.extendleft(reversed(self._parts(rolled)))
        return True

    def drop(self, grant_ids: Collection[int]) -> None:
        """Drops what waits under these grants; a push in flight stays."""
        kept = [rolled for rolled in self._queue if rolled.grant_id not in grant_ids]
        self.clear()
        self._queue.extend(kept)
        self.rows_dropped -= sum(rolled.row_count for rolled in kept)

    def clear(self) -> None:
        """Drops all that waits; a push in flight stays."""
        self.rows_dropped += sum(rolled.row_count for rolled in self._queue)
        self._queue.clear()
