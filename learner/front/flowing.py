"""The way of a push that belongs to no round: within the budget, and for good.

What replay and the queue of asynchronous on-policy learning have in common.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from learner.experience.on_policy import VALID, Segment, copy_episode, cut
from learner.ledger import LossReason
from learner.staleness import Lags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.experience.on_policy import FragmentKey
    from learner.front.books import Books
    from protos.wiserl.v1 import trajectory_pb2


class Flow(abc.ABC):
    """Where checked segments go that come whenever they come, as long as there is room.

    Args:
        books: See `Books`.

    Attributes:
        full: What the learner has when there is no room, for people.
        wait_seconds: How long pushes were held, summed over all of them.
    """

    full: ClassVar[str]

    def __init__(self, books: Books) -> None:
        self.wait_seconds = 0.0
        self._books = books
        self._lags = Lags()
        self._ended: list[tuple[int, trajectory_pb2.Episode]] = []

    @abc.abstractmethod
    def has_room(self) -> bool:
        """Whether a segment of any size may be inserted now."""

    def turns_away(self, sampler: int, version: int, *, rows: int, fragments: int) -> bool:
        """Whether a push is too old to be taken in: never, unless a subclass has a bound.

        Args:
            sampler: Its index.
            version: Of the policy that acted.
            rows: Of a fragment.
            fragments: How many the push holds.
        """
        del sampler, version, rows, fragments
        return False

    def abandon(self) -> int:
        """Drops what will never be trained on; answers its rows: none where all is kept."""
        return 0

    @abc.abstractmethod
    def finish(self) -> None:
        """Nothing more will be inserted."""

    @abc.abstractmethod
    def metrics(self) -> dict[str, float]:
        """The state by metric name."""

    @abc.abstractmethod
    def _store(self, segment: Segment, keys: Sequence[FragmentKey], version: int) -> None:
        """Keeps a segment."""

    def insert(self, segment: Segment, keys: Sequence[FragmentKey], version: int) -> int:
        """Inserts a segment, of which nothing can be refused any more; answers its valid steps.

        The caller commits the header once more, with the push's sequence in it, before it answers.
        A process that is killed anywhere leaves both the rows and the sequence, or neither.
        """
        books = self._books
        kept = within(segment, keys, books.steps_left)
        self._store(kept, keys, version)
        steps = int(np.count_nonzero(kept.columns[VALID]))
        if kept is not segment:
            beyond = int(np.count_nonzero(segment.columns[VALID])) - steps
            books.ledger.add(LossReason.BEYOND_BUDGET, rows=beyond)
        if kept.episodes:
            self._end_episodes(kept, keys)
        books.header.totals.environment_steps += steps
        if books.budget_met:
            self.finish()
        return steps

    def take_ended(self) -> list[tuple[int, trajectory_pb2.Episode]]:
        """The episodes that ended since this was last asked, in order.

        Each with the environment steps of the run at its end. Between two updates they are no more
        than there is room for.
        """
        ended, self._ended = self._ended, []
        return ended

    def take_lags(self) -> dict[str, float]:
        """The lag of what came since this was last asked, by metric name."""
        return self._lags.take()

    def _end_episodes(self, segment: Segment, keys: Sequence[FragmentKey]) -> None:
        """Notes the episodes of a segment, before its steps are counted, in the order of time."""
        before = self._books.environment_steps
        valid = segment.columns[VALID]
        steps = before + np.cumsum(np.count_nonzero(valid, axis=1))
        ended = [
            (int(steps[row]), position, episode)
            for position, episode in segment.episodes
            if valid[row := episode.end_row - keys[position].first_row, position]
        ]
        ended.sort(key=lambda entry: entry[:2])
        self._ended += [(at, copy_episode(episode)) for at, _, episode in ended]
        self._books.curve.extend(int(steps[-1]), [episode for _, _, episode in ended])


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
