"""What is rolled and not yet answered: pushes in order, one in flight, each with a sequence."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from common.logging import Logger
from protos.wiserl.v1 import learner_pb2
from sampler.splitting import split

if TYPE_CHECKING:
    from collections.abc import Collection

    from common.signature import Signature
    from protos.wiserl.v1 import trajectory_pb2


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


class Outbox:
    """Batches to push. It is bounded by whoever fills it, by `fragments`.

    Attributes:
        sequence: The last one used, or known to be used.
        rows_dropped: Rows that were rolled and never pushed, since the last `reset`.
    """

    def __init__(self) -> None:
        self.sequence = 0
        self.rows_dropped = 0
        self._signature: Signature | None = None
        self._slots_per_push: int | None = None
        self._queue: collections.deque[Rolled] = collections.deque()
        self._current: tuple[Rolled, learner_pb2.PushTrajectoriesRequest] | None = None

    def reset(self, signature: Signature, last_sequence: int) -> None:
        """Begins a registration without anything to push.

        A sequence that was used and that the learner does not have is a push that was lost;
        counting on from it leaves the gap by which the learner knows.
        """
        self._queue.clear()
        self._current = None
        self.rows_dropped = 0
        self._signature = signature
        self._slots_per_push = None
        self.sequence = max(self.sequence, last_sequence)

    @property
    def fragments(self) -> int:
        """How many fragments wait for an answer, the push in flight included."""
        waiting = sum(len(rolled.batch.slots) for rolled in self._queue)
        return waiting + (len(self._current[0].batch.slots) if self._current else 0)

    def add(self, rolled: Rolled) -> None:
        """Puts a batch behind the others, in parts where pushes of its size were too large."""
        self._queue.extend(self._parts(rolled))

    def _parts(self, rolled: Rolled) -> list[Rolled]:
        at_most = self._slots_per_push
        if at_most is None or len(rolled.batch.slots) <= at_most or self._signature is None:
            return [rolled]
        parts = split(rolled.batch, self._signature, at_most)
        return [Rolled(rolled.grant_id, part) for part in parts]

    def next(self, run_id: str, sampler_id: str) -> learner_pb2.PushTrajectoriesRequest | None:
        """The push in flight, the same object until it is answered; else the next, if any."""
        if self._current is None and self._queue:
            rolled = self._queue.popleft()
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
        self.rows_dropped += sum(rolled.row_count for rolled in self._queue)
        self.rows_dropped -= sum(rolled.row_count for rolled in kept)
        self._queue = collections.deque(kept)
