"""Answers that refuse for good, and when there were too many of them."""

from __future__ import annotations

import collections
import dataclasses

from common.statuses import Code

LIMIT = 5
WITHIN_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Refused:
    """A final answer to a push or a report that is no response. The same request never succeeds.

    Attributes:
        code: INVALID_ARGUMENT, or RESOURCE_EXHAUSTED for what is larger than a limit.
        message: The value, the constraint and the remedy.
        sent: False where the request never left this process, because it is larger than the learner
            takes; its sequence is then still free.
    """

    code: int
    message: str
    sent: bool = True

    @property
    def too_large(self) -> bool:
        """Whether smaller parts of it may be taken."""
        return self.code == Code.RESOURCE_EXHAUSTED


class RefusalCount:
    """Counts refusals within a minute: a sampler that is refused again and again has to stop."""

    def __init__(self) -> None:
        self._times: collections.deque[float] = collections.deque(maxlen=LIMIT)

    def add(self, now: float) -> bool:
        """Counts one at `now` (seconds); True where it is one too many."""
        self._times.append(now)
        return len(self._times) == LIMIT and now - self._times[0] <= WITHIN_SECONDS
