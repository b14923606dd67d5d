"""Credits: how many fragments each sampler may have in flight while nobody waits for a round.

A state machine without network or clock. All samplers together have a fixed number in flight, so
that more of them bring no more stale rows; each has at least one, else it could do nothing.
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
    """

    grant_id: int
    sampler_id: str
    fragments: int


class Credits:
    """Deals fragments in flight in proportion to slots.

    Nothing is ever taken back early: where a sampler's number shrinks, what it has in flight beyond
    it is still welcome. Nobody waits for any of it, so a sampler owes nothing.

    Args:
        fragments: In flight in all, at least 1; more where there are more samplers than that.
        rows: T of each.
        version: The policy version to act with; any later one does as well.
        grant_ids: Where ids come from.

    Attributes:
        rows: The same.
        version: The same.

    Raises:
        InvalidFieldError: `fragments` below 1.
    """

    def __init__(
        self, fragments: int, *, rows: int, version: int, grant_ids: Iterator[int]
    ) -> None:
        if fragments < 1:
            raise InvalidFieldError(
                "fragments_in_flight", f"{fragments} is below 1; nobody could roll anything"
            )
        self.rows = rows
        self.version = version
        self._fragments = fragments
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
        shares = proportional(self._fragments, [seat.slots for seat in seats])
        for seat, share in zip(seats, shares, strict=True):
            before = self._dealt.get(seat.sampler_id)
            if before is None or before.fragments != share:
                grant_id = before.grant_id if before else next(self._grant_ids)
                credit = self._dealt[seat.sampler_id] = Credit(grant_id, seat.sampler_id, share)
                changed.append(credit)
        return changed

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
