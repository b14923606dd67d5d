"""What a client does about a failed call: the contract's rules as data, and how long it waits."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from common.errors import Reason
from common.statuses import Code, Status

if TYPE_CHECKING:
    import random


class Action(enum.Enum):
    """What comes after a status."""

    REPEAT = enum.auto()
    """The same call again, after a pause that grows."""
    WAIT = enum.auto()
    """The same call again, after as long as the learner says."""
    REFUSED = enum.auto()
    """A final answer: never the same request again."""
    REGISTER = enum.auto()
    """The learner has forgotten this sampler."""
    RESTART = enum.auto()
    """The learner serves another run."""
    WITHOUT_VERSION = enum.auto()
    """The version asked for is gone."""
    REFRESH = enum.auto()
    """The same call with the token as it stands in its file now, once; then stop."""
    STOP = enum.auto()
    """The sampler has no place here."""


# CANCELLED, UNKNOWN and ABORTED come from proxies and from servers that die.
_REPEATED = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.INTERNAL,
        Code.CANCELLED,
        Code.UNKNOWN,
        Code.ABORTED,
    }
)

_BY_REASON = {
    (Code.FAILED_PRECONDITION, Reason.UNKNOWN_SAMPLER.value): Action.REGISTER,
    (Code.FAILED_PRECONDITION, Reason.RUN_CHANGED.value): Action.RESTART,
    (Code.NOT_FOUND, Reason.VERSION_GONE.value): Action.WITHOUT_VERSION,
}


def action(status: Status) -> Action:
    """What the contract says to do about a status."""
    if status.code in _REPEATED:
        return Action.REPEAT
    if status.code == Code.RESOURCE_EXHAUSTED:
        return Action.REFUSED if status.retry_seconds is None else Action.WAIT
    if status.code == Code.INVALID_ARGUMENT:
        return Action.REFUSED
    if status.code == Code.UNAUTHENTICATED:
        return Action.REFRESH
    return _BY_REASON.get((status.code, status.reason), Action.STOP)


def is_silence(status: Status) -> bool:
    """Whether nobody of the learner's has said anything, as far as the status tells."""
    return status.code in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED} and not status.reason


class Backoff:
    """Pauses that double from one failure to the next, with jitter, up to a longest one.

    Args:
        draw: Random numbers of [0, 1).
    """

    FIRST_SECONDS = 0.1
    LONGEST_SECONDS = 1.0
    """A learner that is restarted finds its samplers back within about so long."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._next = self.FIRST_SECONDS

    def pause(self) -> float:
        """How long to wait before the next attempt, in seconds: from half to all of the pause."""
        pause, self._next = self._next, min(2 * self._next, self.LONGEST_SECONDS)
        return pause * (1 + self._draw.random()) / 2

    def pause_of(self, seconds: float) -> float:
        """How long to wait where the learner says how long: as long, and up to half more."""
        return max(seconds, self.FIRST_SECONDS) * (1 + self._draw.random() / 2)


class Patience:
    """How long to wait for the answers of one kind of call.

    What takes longer than its deadline to transmit, or to transmit and be held, would be cut off in
    every attempt, however often it is repeated: a request gets time for its size, and where an
    attempt was cut off although the learner is there, the next ones get twice the time.
    """

    SLOWEST_BYTES_PER_SECOND = 2**20
    MOST_FACTOR = 16.0

    def __init__(self) -> None:
        self._factor = 1.0

    def seconds(self, deadline_seconds: float, size_bytes: int) -> float:
        """The deadline of the next attempt, for a request of so many bytes."""
        return self._factor * (deadline_seconds + size_bytes / self.SLOWEST_BYTES_PER_SECOND)

    def was_too_short(self) -> None:
        """An attempt was cut off."""
        self._factor = min(2 * self._factor, self.MOST_FACTOR)

    def sufficed(self, share: float) -> None:
        """An answer came within this share of the time that it was given."""
        if share < 0.4:
            self._factor = max(1.0, self._factor / 2)
