"""How old experience is: in publications since its policy's, and in fragments since then.

State machines without network or clock. A policy's *lag* is how many versions were published after
it; experience whose lag exceeds `max_staleness` is stale. Lag counts publications and not updates,
so that publishing less often makes the same experience less stale: that is what the interval
between publications is adapted by.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import math
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Sequence

REMEMBERED = 4096
"""Publications whose versions are known; an older version counts as if it came before them."""

STALE_SHARE = 0.05
"""Of fragments, that may be stale at most."""

SETTLED_SHARE = 0.01
"""Of fragments, that would be stale at most with an interval that is lowered to."""

JUDGED = 256
"""Fragments that the interval follows from: enough for a share of 5 %, few enough to follow."""


class Publications:
    """The versions that this process published, in order.

    A version from before this process, and one that is long forgotten, lags behind all of them.

    Attributes:
        fragments: How many were trained on or found stale so far, for whoever counts them.
    """

    def __init__(self) -> None:
        self.fragments = 0
        self._versions: list[int] = []
        self._fragments: list[int] = []

    def published(self, version: int) -> None:
        """Notes a version above all before it."""
        self._versions.append(version)
        self._fragments.append(self.fragments)
        if len(self._versions) >= 2 * REMEMBERED:
            del self._versions[:REMEMBERED], self._fragments[:REMEMBERED]

    @property
    def newest(self) -> int:
        """The newest version; 0 before the first."""
        return self._versions[-1] if self._versions else 0

    def lag(self, version: int) -> int:
        """How many versions were published after this one."""
        return len(self._versions) - bisect.bisect_right(self._versions, version)

    def fragments_since(self, version: int) -> int:
        """How many fragments were trained on or found stale since this version was published."""
        at = bisect.bisect_right(self._versions, version) - 1
        return self.fragments - (self._fragments[at] if at >= 0 else 0)


class Lags:
    """Mean and largest lag of what was looked at, and how much of it was stale."""

    def __init__(self) -> None:
        self._count = self._stale = self._sum = self._most = 0

    def add(self, lag: int, *, fragments: int = 1, is_stale: bool = False) -> None:
        """Notes fragments of one lag. Stale ones count in the share, not in mean and maximum."""
        if is_stale:
            self._stale += fragments
            return
        self._count += fragments
        self._sum += lag * fragments
        self._most = max(self._most, lag)

    def take(self) -> dict[str, float]:
        """By metric name, over what was noted since this was last asked; empty for nothing."""
        count, stale, total, most = self._count, self._stale, self._sum, self._most
        self._count = self._stale = self._sum = self._most = 0
        found: dict[str, float] = {}
        if count:
            found |= {"learner/policy_lag": total / count, "learner/policy_lag_max": float(most)}
        if count + stale:
            found["learner/stale_share"] = stale / (count + stale)
        return found


FRAGMENTS_PER_SLOT = 2
"""In flight for asynchronous on-policy learning: one that is rolled while the other is pushed."""


@dataclasses.dataclass(frozen=True)
class StalenessSettings:
    """How old experience may be that is trained on.

    Attributes:
        max_staleness: The largest lag, in publications.
        batch_fragments: Fragments that an update takes.
        queue_fragments: Fragments that wait to be trained on, at most.
        max_publish_interval: The most updates between two publications.
    """

    max_staleness: int
    batch_fragments: int
    queue_fragments: int
    max_publish_interval: int

    def __post_init__(self) -> None:
        """Refuses settings with which nothing could be trained on, or the two sides would wait.

        Raises:
            InvalidFieldError: `max_staleness` or another number below 1, or a queue smaller than a
                batch.
        """
        if self.max_staleness < 1:
            raise InvalidFieldError(
                "max_staleness",
                f"{self.max_staleness} is below 1: while an update is made, samplers roll with the "
                "version before it, so that all they bring would be stale; raise it, or train in "
                "synchronous rounds",
            )
        for field in ("batch_fragments", "max_publish_interval"):
            if getattr(self, field) < 1:
                raise InvalidFieldError(field, f"{getattr(self, field)} is below 1")
        if self.queue_fragments < self.batch_fragments:
            raise InvalidFieldError(
                "queue_size",
                f"{self.queue_fragments} is below the {self.batch_fragments} fragments of an "
                "update: training would wait for ever; raise it to that or more",
            )
        _ = self.first_interval

    @property
    def most_in_flight(self) -> int:
        """Fragments that samplers may have in flight, so that those behind them are not stale.

        From its first row to the update, a fragment sees as many others trained on as are in flight
        and in the queue; they must fit into `max_staleness` publications at the largest interval.
        """
        updates = self.max_staleness * self.max_publish_interval
        return updates * self.batch_fragments - self.queue_fragments

    @property
    def first_interval(self) -> int:
        """Updates between publications while as many slots roll as an update takes fragments.

        Nothing is stale with it then; where more slots roll, the interval adapts.

        Raises:
            InvalidFieldError: More than `max_publish_interval`.
        """
        in_flight = FRAGMENTS_PER_SLOT * self.batch_fragments
        updates = (in_flight + self.queue_fragments) / self.batch_fragments
        interval = math.ceil(updates / self.max_staleness)
        if interval > self.max_publish_interval:
            raise InvalidFieldError(
                "max_staleness",
                f"{self.max_staleness} is too little: {in_flight} fragments in flight and "
                f"{self.queue_fragments} in the queue come before one that is begun now, "
                f"{updates:g} updates of {self.batch_fragments}; for less than {STALE_SHARE:.0%} "
                f"of them to be stale, {interval} updates must lie between two publications, and "
                f"max_publish_interval is {self.max_publish_interval}; raise max_staleness to "
                f"{math.ceil(updates / self.max_publish_interval)} or max_publish_interval to "
                f"{interval}, or lower queue_size",
            )
        return interval


class PublishingInterval:
    """How many updates lie between two publications, so that few fragments are stale.

    A fragment whose version was published u updates ago lags behind by floor(u / k) publications
    where there is one every k updates, and is stale from u = (max_staleness + 1) k on. So k follows
    from the u of the last fragments, counted in batches of the fragments that came before them,
    stale ones included: how many are in flight does not depend on what becomes of them. It rises
    where more than half of `STALE_SHARE` of them would be stale, the other half being left for what
    changes meanwhile; it falls only where hardly any would, since every change makes some stale
    that were not.

    Args:
        settings: The bounds.

    Attributes:
        updates: The interval.
    """

    def __init__(self, settings: StalenessSettings) -> None:
        self._settings = settings
        self._seen: collections.deque[int] = collections.deque(maxlen=JUDGED)
        self.updates = settings.first_interval

    def judged(self, age: int, fragments: int = 1) -> None:
        """Notes fragments, stale or not, whose version was published `age` fragments ago."""
        self._seen.extend([age // self._settings.batch_fragments] * fragments)

    def is_over(self, fragments: int) -> bool:
        """Whether a publication is due so many fragments after the last one."""
        return fragments >= self.updates * self._settings.batch_fragments

    def adapt(self) -> None:
        """Sets the interval by what was noted; before an eighth of it is known, leaves it."""
        if len(self._seen) < JUDGED // 8:
            return
        oldest = sorted(self._seen, reverse=True)
        least, enough = (self._needed(oldest, share) for share in (STALE_SHARE / 2, SETTLED_SHARE))
        interval = min(max(self.updates, least), enough)
        self.updates = min(interval, self._settings.max_publish_interval)

    def _needed(self, oldest: Sequence[int], share: float) -> int:
        """The interval with which at most this share of what was seen would be stale."""
        return oldest[int(len(oldest) * share)] // (self._settings.max_staleness + 1) + 1
