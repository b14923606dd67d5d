"""The way of a push into replay: as long as there is room, within the budget, and for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from learner.experience.on_policy import VALID, Segment, copy_episode, cut
from learner.ledger import LossReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.experience.on_policy import FragmentKey
    from learner.experience.replay import ReplayStore
    from learner.front.watching import Curve
    from learner.ledger import Ledger
    from learner.rate_limiter import RateLimiter
    from learner.totals import Header
    from protos.wiserl.v1 import trajectory_pb2


class ReplayIntake:
    """Inserts checked segments into a replay store, at the pace of a limiter.

    Args:
        store: Where rows go.
        limiter: Whose steps are the store's valid rows.
        header: Keeps the store's cursor and the step budget.
        total_steps: The budget.
        ledger: Takes the rows beyond the budget.
        curve: Of the returns of training episodes.

    Attributes:
        limiter: The same.
        wait_seconds: How long pushes were held, summed over all of them.
    """

    def __init__(
        self,
        store: ReplayStore,
        limiter: RateLimiter,
        header: Header,
        *,
        total_steps: int,
        ledger: Ledger,
        curve: Curve,
    ) -> None:
        self.limiter = limiter
        self._ended: list[tuple[int, trajectory_pb2.Episode]] = []
        self.wait_seconds = 0.0
        self._store = store
        self._header = header
        self._total_steps = total_steps
        self._ledger = ledger
        self._curve = curve
        limiter.ends_at(limiter.steps + total_steps - header.totals.environment_steps)

    def insert(self, segment: Segment, keys: Sequence[FragmentKey]) -> int:
        """Inserts a segment, of which nothing can be refused any more; answers its valid steps.

        The caller commits the header once more, with the push's sequence in it, before it answers.
        A process that is killed anywhere leaves both the rows and the sequence, or neither.
        """
        totals = self._header.totals
        kept = within(segment, keys, self._total_steps - totals.environment_steps)
        if self._store.is_persistent:
            self._make_room(len(keys))
        self.limiter.inserted(self._store.insert(kept, keys))
        totals.ring = self._store.cursor
        steps = int(np.count_nonzero(kept.columns[VALID]))
        if kept is not segment:
            beyond = int(np.count_nonzero(segment.columns[VALID])) - steps
            self._ledger.add(LossReason.BEYOND_BUDGET, rows=beyond)
        if kept.episodes:
            self._end_episodes(kept, keys)
        totals.environment_steps += steps
        if totals.environment_steps >= self._total_steps:
            self.limiter.finish()
        return steps

    def take_ended(self) -> list[tuple[int, trajectory_pb2.Episode]]:
        """The episodes that ended since this was last asked, in order.

        Each with the environment steps of the run at its end. Between two updates they are no more
        than fit into what the limiter lets in, and before the first one into `learning_starts`.
        """
        ended, self._ended = self._ended, []
        return ended

    def metrics(self) -> dict[str, float]:
        """The state of the replay and of its limiter by metric name."""
        return {
            "replay/size": self._store.size,
            "replay/evicted": self._store.evicted,
            "replay/insert_wait_seconds": self.wait_seconds,
        } | self.limiter.metrics()

    def _make_room(self, blocks: int) -> None:
        """Has the header name no block that is about to be written over."""
        cursor = self._store.make_room(blocks)
        if cursor != self._header.totals.ring:
            self._header.totals.ring = cursor
            self._header.commit()

    def _end_episodes(self, segment: Segment, keys: Sequence[FragmentKey]) -> None:
        """Notes the episodes of a segment, before its steps are counted, in the order of time."""
        before = self._header.totals.environment_steps
        valid = segment.columns[VALID]
        steps = before + np.cumsum(np.count_nonzero(valid, axis=1))
        ended = [
            (int(steps[row]), position, episode)
            for position, episode in segment.episodes
            if valid[row := episode.end_row - keys[position].first_row, position]
        ]
        ended.sort(key=lambda entry: entry[:2])
        self._ended += [(at, copy_episode(episode)) for at, _, episode in ended]
        self._curve.extend(int(steps[-1]), [episode for _, _, episode in ended])


def within(segment: Segment, keys: Sequence[FragmentKey], budget: int) -> Segment:
    """A segment with at most `budget` valid steps: later slots' rows, and later rows, are invalid.

    Episodes and final observations of steps beyond the budget are left out.
    """
    if int(np.count_nonzero(segment.columns[VALID])) <= budget:
        return segment
    valid = segment.columns[VALID].copy()
    cut(valid, budget)
    kept = valid[segment.final_rows, segment.final_slots]
    return Segment(
        {**segment.columns, VALID: valid},
        segment.final_rows[kept],
        segment.final_slots[kept],
        {key: array[kept] for key, array in segment.final_columns.items()},
        [
            (position, episode)
            for position, episode in segment.episodes
            if valid[episode.end_row - keys[position].first_row, position]
        ],
    )
