"""The way of a push into replay: at the pace of a limiter, whatever the version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.front.flowing import Flow
from learner.ledger import LossReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.experience.on_policy import FragmentKey, Segment
    from learner.experience.store import ExperienceStore
    from learner.front.books import Books
    from learner.rate_limiter import RateLimiter


class ReplayIntake(Flow):
    """Inserts checked segments into a replay store, at the pace of a limiter.

    Args:
        store: Where rows go.
        limiter: Whose steps are the store's valid rows.
        books: The header of them keeps the store's cursor, too.

    Attributes:
        limiter: The same.
    """

    full = "as much as the replay ratio lets it train on"

    def __init__(self, store: ExperienceStore, limiter: RateLimiter, books: Books) -> None:
        super().__init__(books)
        self.limiter = limiter
        self._replay = store
        limiter.ends_at(limiter.steps + books.steps_left)

    def has_room(self) -> bool:
        """See `RateLimiter.may_insert`."""
        return self.limiter.may_insert()

    def finish(self) -> None:
        """What the ratio still demands is all that is due."""
        self.limiter.finish()

    def metrics(self) -> dict[str, float]:
        """The state of the replay and of its limiter by metric name."""
        return {
            "replay/size": self._replay.size,
            "replay/evicted": self._replay.evicted,
            "replay/insert_wait_seconds": self.wait_seconds,
        } | self.limiter.metrics()

    def _store(self, segment: Segment, keys: Sequence[FragmentKey], version: int) -> None:
        self._lags.add(self._books.publications.lag(version), fragments=len(keys))
        if self._replay.is_persistent:
            self._make_room(len(keys))
        discarded = self._replay.discarded
        self.limiter.inserted(self._replay.insert(segment, keys))
        if broken := self._replay.discarded - discarded:
            self._books.ledger.add(LossReason.BROKEN_EPISODE, rows=broken)
        self._books.header.totals.ring = self._replay.cursor

    def _make_room(self, blocks: int) -> None:
        """Has the header name no block that is about to be written over."""
        header, cursor = self._books.header, self._replay.make_room(blocks)
        if cursor != header.totals.ring:
            header.totals.ring = cursor
            header.commit()
