"""The grants at hand: takes over each list of grants and knows what is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.logging import Logger
from sampler.collecting import CollectWork, Layout, collect_work
from sampler.evaluating import EvaluateWork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protos.wiserl.v1 import grant_pb2

Work = CollectWork | EvaluateWork

_logger = Logger()


class Worklist:
    """What the learner asks for, by grant.

    Attributes:
        collect: The collect grants by id, in the order in which they came.
        evaluate: The evaluation grants by id, in the order in which they came.
        finish: That the run is over, once a grant has said so.
    """

    def __init__(self, layout: Layout) -> None:
        self.collect: dict[int, CollectWork] = {}
        self.evaluate: dict[int, EvaluateWork] = {}
        self.finish: grant_pb2.FinishGrant | None = None
        self._layout = layout
        self._unknown: set[int] = set()

    def clear(self) -> list[Work]:
        """Forgets all grants, and answers them."""
        return self.take([])

    def take(self, grants: Sequence[grant_pb2.Grant]) -> list[Work]:
        """Takes over a complete list of grants; answers what was at hand and is not in it."""
        listed = {grant.grant_id for grant in grants}
        works: list[Work] = [*self.collect.values(), *self.evaluate.values()]
        over = [work for work in works if work.grant_id not in listed]
        for work in over:
            self.collect.pop(work.grant_id, None)
            self.evaluate.pop(work.grant_id, None)
        for grant in grants:
            self._take(grant)
        return over

    def _take(self, grant: grant_pb2.Grant) -> None:
        grant_id, kind = grant.grant_id, grant.WhichOneof("kind")
        if grant_id in self.collect:
            self.collect[grant_id].update(grant)
        elif grant_id in self.evaluate:
            self.evaluate[grant_id].update(grant)
        elif kind == "finish":
            self.finish = grant.finish
        elif kind == "evaluate":
            self.evaluate[grant_id] = EvaluateWork(grant)
        elif kind == "collect" and (work := collect_work(grant, self._layout)) is not None:
            self.collect[grant_id] = work
        elif grant_id not in self._unknown:
            self._unknown.add(grant_id)
            _logger.warning("grant_unknown", grant_id=grant_id, kind=kind)

    def to_roll(self, version: int) -> list[CollectWork]:
        """What the policy of this version may roll for."""
        return [work for work in self.collect.values() if work.can_use(version)]

    def to_play(self) -> EvaluateWork | None:
        """The first evaluation with seeds that nobody plays yet."""
        return next((work for work in self.evaluate.values() if work.pending), None)
