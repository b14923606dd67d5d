"""A synchronous round: which sampler rolls which of its fragments, until all of them are there.

A round is exactly so many fragments of so many rows of one policy version, whoever is connected.
It is a state machine without network or clock; samplers are seats: an id, and a number of slots.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Seat(NamedTuple):
    """A sampler to deal to."""

    sampler_id: str
    slots: int


@dataclasses.dataclass
class RoundGrant:
    """Fragments that one sampler rolls: each slot's positions in the round, in their order.

    Attributes:
        grant_id: Never used for other work.
        sampler_id: Who rolls them.
        fragments: How many in all.
        pending: By slot, from 0: the positions that are still to come.
    """

    grant_id: int
    sampler_id: str
    fragments: int
    pending: list[collections.deque[int]]

    @property
    def slots(self) -> int:
        """How many slots take part."""
        return len(self.pending)

    @property
    def missing(self) -> int:
        """How many fragments are still to come."""
        return sum(len(positions) for positions in self.pending)


class Round:
    """The fragments of one round: to deal, dealt, delivered."""

    def __init__(
        self, version: int, *, fragments: int, rows: int, grant_ids: Iterator[int]
    ) -> None:
        self.version = version
        self.rows = rows
        self.fragments = fragments
        self.delivered = 0
        self._grant_ids = grant_ids
        self._undealt = list(range(fragments))
        self._grants: dict[int, RoundGrant] = {}
        self._lost: set[str] = set()

    @property
    def complete(self) -> bool:
        """Whether every fragment is there."""
        return self.delivered == self.fragments

    def deal(self, seats: Sequence[Seat]) -> list[RoundGrant]:
        """Deals what nobody rolls in turn over the seats, to their lowest slots.

        A seat whose slots are all used in this lap is skipped; when all are, the next lap begins.
        Who lost work of this round gets some again only where nobody else is there.
        """
        willing = [seat for seat in seats if seat.sampler_id not in self._lost] or list(seats)
        if not willing or not self._undealt:
            return []
        shares = shares_of(len(self._undealt), [seat.slots for seat in willing])
        positions = iter(self._undealt)
        dealt = [
            self._grant(seat, share, positions)
            for seat, share in zip(willing, shares, strict=True)
            if share
        ]
        self._undealt = []
        return dealt

    def _grant(self, seat: Seat, share: int, positions: Iterator[int]) -> RoundGrant:
        slots = min(share, seat.slots)
        laps, rest = divmod(share, slots)
        pending = [
            collections.deque(next(positions) for _ in range(laps + (slot < rest)))
            for slot in range(slots)
        ]
        grant = RoundGrant(next(self._grant_ids), seat.sampler_id, share, pending)
        self._grants[grant.grant_id] = grant
        return grant

    def grant(self, grant_id: int, sampler_id: str) -> RoundGrant | None:
        """A sampler's grant; None where it is over, another's or none of this round."""
        grant = self._grants.get(grant_id)
        return grant if grant is not None and grant.sampler_id == sampler_id else None

    def missing_of(self, sampler_id: str) -> int:
        """How many fragments a sampler still has to bring."""
        grants = self._grants.values()
        return sum(grant.missing for grant in grants if grant.sampler_id == sampler_id)

    def deliver(self, grant: RoundGrant, slots: Sequence[int]) -> list[int]:
        """Takes one fragment of each of these slots of a grant; answers their positions.

        Raises:
            IndexError: A slot has no fragment to come.
        """
        positions = [grant.pending[slot].popleft() for slot in slots]
        self.delivered += len(positions)
        return positions

    def take_back(self, sampler_id: str) -> list[int]:
        """Ends a sampler's grants; what it has not brought can be dealt again.

        Returns:
            The grants that are over; empty where it had brought everything.
        """
        over = [
            grant
            for grant in self._grants.values()
            if grant.sampler_id == sampler_id and grant.missing
        ]
        for grant in over:
            del self._grants[grant.grant_id]
            self._undealt.extend(position for slot in grant.pending for position in slot)
            self._lost.add(sampler_id)
        return [grant.grant_id for grant in over]


def shares_of(fragments: int, slots: Sequence[int]) -> list[int]:
    """How many fragments each seat gets when they are dealt in turn, lap after lap.

    Args:
        fragments: How many to deal.
        slots: Of each seat, at least 1.
    """
    laps, rest = divmod(fragments, sum(slots))
    shares = [laps * count for count in slots]
    for turn in range(max(slots)):
        for seat, count in enumerate(slots):
            if rest and turn < count:
                shares[seat] += 1
                rest -= 1
        if not rest:
            break
    return shares
