"""The way of a push into the queue of asynchronous on-policy learning: as long as it is fresh.

A push is turned away where its version is too old already. What becomes too old while it waits is
judged when it would be trained on, and goes to the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from learner.experience.segment_queue import Fragment, SegmentQueue
from learner.front.flowing import Flow
from learner.ledger import LossReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.experience.on_policy import FragmentKey, Segment
    from learner.front.books import Books
    from learner.staleness import PublishingInterval, StalenessSettings


class Judged(Protocol):
    """Takes note of whether fragments of the sampler of an index were stale."""

    def __call__(self, index: int, /, *, rows: int, fragments: int, is_stale: bool) -> None:
        """All of them have so many rows."""


class QueueIntake(Flow):
    """Keeps checked segments until there are enough for an update.

    Args:
        settings: How old experience may be, and how much an update takes.
        interval: Adapts to what is found stale.
        books: See `Books`.
        judged: Is told whether so many fragments, of so many rows, of a sampler were stale.

    Attributes:
        finished: Whether nothing more is inserted.
    """

    full = "as many segments as its queue holds"

    def __init__(
        self,
        settings: StalenessSettings,
        interval: PublishingInterval,
        books: Books,
        judged: Judged,
    ) -> None:
        super().__init__(books)
        self._settings = settings
        self._interval = interval
        self.finished = False
        self._queue = SegmentQueue(settings.queue_fragments)
        self._judged = judged

    def has_room(self) -> bool:
        """Whether the queue has room for a fragment."""
        return self._queue.has_room()

    def finish(self) -> None:
        """Nothing more comes: what there is makes the last batches, also a smaller one."""
        self.finished = True

    @property
    def is_publication_due(self) -> bool:
        """Whether the interval since the last publication is over."""
        publications = self._books.publications
        return self._interval.is_over(publications.fragments_since(publications.newest))

    def abandon(self) -> int:
        """Empties the queue; answers the rows that were in it."""
        return sum(each.rows for each in self._queue.take(len(self._queue)))

    def is_stale(self, version: int) -> bool:
        """Whether experience of this version is too old by now."""
        return self._books.publications.lag(version) > self._settings.max_staleness

    def turns_away(self, sampler: int, version: int, *, rows: int, fragments: int) -> bool:
        """Whether a push of a sampler is too old to be taken in at all."""
        stale = self.is_stale(version)
        if stale:
            self._judge(sampler, version, rows=rows, fragments=fragments, is_stale=True)
        return stale

    def take(self) -> list[Fragment]:
        """Takes out a batch; empty while there is not enough for one.

        What is too old by now is dropped. Every fragment is judged once here, stale or not.
        """
        self._drop_aged()
        needed = 1 if self.finished else self._settings.batch_fragments
        if len(self._queue) < needed:
            return []
        taken = self._queue.take(self._settings.batch_fragments)
        for each in taken:
            self._judge(each.key.sampler, each.version, rows=each.rows, is_stale=False)
        self._interval.adapt()
        return taken

    def metrics(self) -> dict[str, float]:
        """The state of the queue by metric name."""
        return {
            "queue/size": float(len(self._queue)),
            "queue/insert_wait_seconds": self.wait_seconds,
            "learner/publish_interval": float(self._interval.updates),
        }

    def _store(self, segment: Segment, keys: Sequence[FragmentKey], version: int) -> None:
        self._queue.put(segment, keys, version)

    def _drop_aged(self) -> None:
        aged = self._queue.drop(self.is_stale)
        for each in aged:
            self._judge(each.key.sampler, each.version, rows=each.rows, is_stale=True)
        if aged:
            self._books.ledger.add(LossReason.AGED, rows=sum(each.rows for each in aged))
            self._books.header.commit()

    def _judge(
        self, sampler: int, version: int, *, rows: int, fragments: int = 1, is_stale: bool
    ) -> None:
        publications = self._books.publications
        self._lags.add(publications.lag(version), fragments=fragments, is_stale=is_stale)
        self._interval.judged(publications.fragments_since(version), fragments)
        publications.fragments += fragments
        self._judged(sampler, rows=rows, fragments=fragments, is_stale=is_stale)
