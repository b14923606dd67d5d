"""The journal: what the state machines have to say to people; their shell writes the log."""

from __future__ import annotations

import collections
import dataclasses

MAX_NOTES = 256
"""Kept until somebody takes them; where nobody does, the oldest go."""


@dataclasses.dataclass(frozen=True)
class Note:
    """A log event: a snake_case name with key-values."""

    event: str
    values: dict[str, object]
    is_warning: bool = False


class Journal:
    """Collects notes without a clock, a file or a logger."""

    def __init__(self) -> None:
        self._notes: collections.deque[Note] = collections.deque(maxlen=MAX_NOTES)

    def note(self, event: str, **values: object) -> None:
        """What a person who runs this wants to see."""
        self._notes.append(Note(event, values))

    def warn(self, event: str, **values: object) -> None:
        """Something is lost or slow, and the run goes on."""
        self._notes.append(Note(event, values, is_warning=True))

    def take(self) -> list[Note]:
        """All notes since this was last asked."""
        taken = list(self._notes)
        self._notes.clear()
        return taken
