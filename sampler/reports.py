"""Evaluated episodes on their way to the learner: reports in order, one in flight."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sampler.evaluating import EvaluateWork

_Entry = tuple["EvaluateWork", learner_pb2.ReportEpisodesRequest]


class Reports:
    """Reports to make."""

    def __init__(self) -> None:
        self._queue: collections.deque[_Entry] = collections.deque()
        self._in_flight = False

    def add(
        self,
        work: EvaluateWork,
        episodes: Sequence[learner_pb2.EvaluatedEpisode],
        *,
        run_id: str,
        sampler_id: str,
    ) -> None:
        """Puts a report of some of a work's episodes behind the others."""
        request = learner_pb2.ReportEpisodesRequest(
            run_id=run_id,
            sampler_id=sampler_id,
            grant_id=work.grant_id,
            evaluation_id=work.evaluation_id,
            version=work.version,
            episodes=episodes,
        )
        self._queue.append((work, request))

    def next(self) -> learner_pb2.ReportEpisodesRequest | None:
        """The report in flight, the same object until it is answered; else the next, if any."""
        if not self._queue:
            return None
        self._in_flight = True
        return self._queue[0][1]

    def answered(self) -> _Entry:
        """Takes out the report in flight, whose final answer has come.

        Raises:
            LookupError: There is none.
        """
        if not self._in_flight:
            raise LookupError("a report was answered, but none is in flight")
        self._in_flight = False
        return self._queue.popleft()

    def drop(self, grant_ids: Collection[int]) -> None:
        """Drops what waits under these grants; a report in flight stays."""
        first = self._in_flight
        self._queue = collections.deque(
            entry
            for i, entry in enumerate(self._queue)
            if (i == 0 and first) or entry[0].grant_id not in grant_ids
        )

    def clear(self) -> None:
        """Drops everything."""
        self._queue.clear()
        self._in_flight = False
