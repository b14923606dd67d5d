"""Credits: how many fragments each sampler may have in flight while nobody waits for a round.

A state machine without network or clock. All samplers together have no more than a fixed number in
flight, so that more of them bring no more stale rows; each has at least one, else it could do
nothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from learner.rounds import Seat


@dataclasses.dataclass(frozen=True)
class Credit:
    """What one sampler has.

    Attributes:
        grant_id: The same however often the number changes; never used for other work.
        sampler_id: Who has it.
        fragments: How many it may have in flight; at least 1.
        rows: T of each.
    """

    grant_id: int
    sampler_id: str
    fragments: int
    rows: int


SHORTEST = 8
"""The shortest fragments are this part of the longest: each costs a push, however short it is."""


class Credits:
    """Deals fragments in flight in proportion to slots.

    Nothing is ever taken back early: where a sampler's number shrinks, what it has in flight beyond
    it is still welcome. Nobody waits for any of it, so a sampler owes nothing.

    Args:
        fragments: In flight in all, at least 1; more where there are more samplers than that.
        per_slot: In flight for each slot at most; None for no such bound.
        rows: T of each, but for samplers that were given shorter ones.
        version: The policy version to act with; any later one does as well.
        grant_ids: Where ids come from.

    Attributes:
        version: The same.

    Raises:
        InvalidFieldError: `fragments` below 1.
    """

    def __init__(
        self,
        fragments: int,
        *,
        per_slot: int | None = None,
        rows: int,
        version: int,
        grant_ids: Iterator[int],
    ) -> None:
        if fragments < 1:
            raise InvalidFieldError(
                "fragments_in_flight", f"{fragments} is below 1; nobody could roll anything"
            )
        self.version = version
        self._rows = rows
        self._fragments = fragments
        self._per_slot = per_slot
        self._grant_ids = grant_ids
        self._dealt: dict[str, Credit] = {}

    def deal(self, seats: Sequence[Seat]) -> list[Credit]:
        """Deals to those that are there; answers what is new or has another number."""
        self._dealt = {
            seat.sampler_id: self._dealt[seat.sampler_id]
            for seat in seats
            if seat.sampler_id in self._dealt
        }
        changed = []
        slots = [seat.slots for seat in seats]
        total = self._fragments
        if self._per_slot is not None:
            total = min(total, self._per_slot * sum(slots))
        for seat, share in zip(seats, proportional(total, slots), strict=True):
            before = self._dealt.get(seat.sampler_id)
            if before is None or before.fragments != share:
                changed.append(self._give(seat.sampler_id, share, before))
        return changed

    def _give(self, sampler_id: str, fragments: int, before: Credit | None) -> Credit:
        """The same grant with another number, or a first one."""
        if before is None:
            credit = Credit(next(self._grant_ids), sampler_id, fragments, self._rows)
        else:
            credit = dataclasses.replace(before, fragments=fragments)
        self._dealt[sampler_id] = credit
        return credit

    def shorten(self, sampler_id: str) -> tuple[int, Credit] | None:
        """Halves the fragments of a sampler, until it registers anew.

        Returns:
            The grant that is over, and the one in its place; None where they are as short as they
            get, or the sampler has no grant.
        """
        before = self._dealt.get(sampler_id)
        if before is None or before.rows // 2 < max(1, self._rows // SHORTEST):
            return None
        after = dataclasses.replace(before, grant_id=next(self._grant_ids), rows=before.rows // 2)
        self._dealt[sampler_id] = after
        return before.grant_id, after

    def rows_of(self, sampler_id: str) -> int:
        """T of what a sampler is granted now."""
        credit = self._dealt.get(sampler_id)
        return credit.rows if credit else self._rows

    def are_rows_of(self, sampler_id: str, rows: int) -> bool:
        """Whether a sampler was ever granted fragments of so many rows."""
        granted, shortest = self._rows, self.rows_of(sampler_id)
        while granted > shortest and granted != rows:
            granted //= 2
        return granted == rows

    def take_back(self, sampler_id: str) -> list[int]:
        """Ends a sampler's grant; answers its id, if there is one."""
        credit = self._dealt.pop(sampler_id, None)
        return [credit.grant_id] if credit else []


def proportional(total: int, weights: Sequence[int]) -> list[int]:
    """Whole shares of a total in proportion to weights, each at least 1.

    Who would have less than 1 gets 1, and the others share the rest: rounded down, and what is left
    goes to the largest remainders, to the first ones of equal ones.

    Args:
        total: Met exactly where it is at least the number of weights; else each share is 1.
        weights: At least 1 each.
    """
    shares = [1] * len(weights)
    others, rest = list(range(len(weights))), max(total, len(weights))
    while True:
        whole = sum(weights[i] for i in others)
        larger = [i for i in others if rest * weights[i] >= whole]
        if len(larger) == len(others):
            break
        rest -= len(others) - len(larger)
        others = larger
    for i in others:
        shares[i] = rest * weights[i] // whole
    left = rest - sum(shares[i] for i in others)
    for i in sorted(others, key=lambda i: -(rest * weights[i] % whole))[:left]:
        shares[i] += 1
    return shares
