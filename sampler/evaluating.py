"""An evaluation grant as a sampler works through it: which seeds are still to be played."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protos.wiserl.v1 import grant_pb2


class EvaluateWork:
    """The seeds of one grant; each is pending, out (being played or reported) or reported.

    Attributes:
        grant_id: Its id.
        evaluation_id: The evaluation that its episodes belong to.
        version: The policy version that plays.
        over: Nothing more is wanted: it is not listed any more, or its version is gone.
        outlives_its_grant: False: what is not reported by then is granted again.
    """

    outlives_its_grant = False

    def __init__(self, grant: grant_pb2.Grant) -> None:
        self.grant_id = grant.grant_id
        self.evaluation_id = grant.evaluate.evaluation_id
        self.version = grant.evaluate.version
        self.over = False
        self._out: set[int] = set()
        self._pending: list[int] = []
        self.update(grant)

    @property
    def pending(self) -> int:
        """How many seeds nobody plays yet."""
        return 0 if self.over else len(self._pending)

    def update(self, grant: grant_pb2.Grant) -> None:
        """Takes the seeds of a later listing: what was dealt out before is the same work."""
        seeds = dict.fromkeys(grant.evaluate.seeds)
        self._pending = [seed for seed in seeds if seed not in self._out]

    def take(self, count: int) -> tuple[int, ...]:
        """The next seeds to play, at most `count`."""
        seeds, self._pending = tuple(self._pending[:count]), self._pending[count:]
        self._out.update(seeds)
        return seeds

    def give_back(self, seeds: Iterable[int]) -> None:
        """These were not played, or their report was refused: they are played again."""
        again = [seed for seed in seeds if seed in self._out]
        self._out.difference_update(again)
        self._pending += again


def share(pending: int, workers: int, at_most: int) -> int:
    """How many of the pending seeds one worker takes at a time, at least 1."""
    return max(1, min(-(-pending // workers), at_most))
