"""Fragments of slots in their order, and what goes on from one of a slot to its next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from learner.experience.on_policy import FragmentKey

Value = TypeVar("Value")


class Carried(Generic[Value]):
    """What slots were left with, whose fragments come in any order and number.

    What is missing between two fragments of a slot makes it start over, and so does another life of
    it. A later process begins with nothing: it meets other lives only.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[int, int], tuple[FragmentKey, Value]] = {}

    def before(self, key: FragmentKey, *, rows: int) -> Value | None:
        """What the fragment before this one, of `rows` rows or fewer, ended with; None without."""
        last = self._last.get((key.sampler, key.slot))
        if last is None or last[0].incarnation != key.incarnation:
            return None
        return last[1] if 0 < key.first_row - last[0].first_row <= rows else None

    def keep(self, key: FragmentKey, value: Value) -> None:
        """What this fragment ended with."""
        self._last[key.sampler, key.slot] = key, value


def in_turns(keys: Sequence[FragmentKey], columns: Iterable[int]) -> Iterator[list[int]]:
    """Columns in as many turns as the busiest slot has fragments, each slot's in their order."""
    left = sorted(columns, key=lambda b: keys[b])
    while left:
        turn = {(keys[b].sampler, keys[b].slot): b for b in reversed(left)}
        taken = set(turn.values())
        yield sorted(taken)
        left = [b for b in left if b not in taken]
