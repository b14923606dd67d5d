"""The rate limiter: keeps the replay ratio by having whichever side runs ahead wait for the other.

A state machine without network, clock or thread. Reverb (Cassirer et al. 2021,
https://arxiv.org/abs/2102.04736, section 3.2) has one as a sample-to-insert ratio with an error
buffer; this one counts gradient steps against environment steps, so that neither the size of a
minibatch nor that of a segment means anything to it.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from fractions import Fraction
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Callable

FINEST_RATIO = 10**9
"""The largest denominator of a ratio, which is counted in whole numbers and so exactly."""


@dataclasses.dataclass(frozen=True)
class LimiterSettings:
    """What a limiter holds.

    Attributes:
        ratio: Gradient steps for each valid environment step after `learning_starts`.
        learning_starts: So many valid steps come before the first gradient step.
        window: How far either side may run ahead of the ratio, in gradient steps.
        updates_at_once: The most gradient steps that the learner takes as a whole or not at all.
    """

    ratio: float
    learning_starts: int
    window: float
    updates_at_once: int = 1

    def __post_init__(self) -> None:
        """Refuses settings under which both sides could wait for each other.

        Raises:
            InvalidFieldError: A ratio that is not positive, a count that is negative, a window
                below 1 or below half of `updates_at_once`.
        """
        if not math.isfinite(self.ratio) or self.fraction <= 0:
            raise InvalidFieldError(
                "ratio",
                f"{self.ratio} is no number of at least {1 / FINEST_RATIO}; give how many "
                "gradient steps follow from an environment step, such as 0.25",
            )
        if self.learning_starts < 0:
            raise InvalidFieldError("learning_starts", f"{self.learning_starts} is below 0")
        if self.updates_at_once < 1:
            raise InvalidFieldError("updates_at_once", f"{self.updates_at_once} is below 1")
        if not math.isfinite(self.window) or self.window < 1:
            raise InvalidFieldError(
                "window",
                f"{self.window} gradient steps are no number of at least 1: where both sides are "
                f"within it, neither could move; raise it to 1, that is {1 / self.ratio:g} "
                "environment steps, or more",
            )
        if 2 * math.floor(self.window) < self.updates_at_once:
            raise InvalidFieldError(
                "window",
                f"{self.window} is below half of the {self.updates_at_once} gradient steps that "
                "are taken at once: inserts could wait for updates that are not due yet; raise it "
                f"to {math.ceil(self.updates_at_once / 2)} or more",
            )

    @property
    def fraction(self) -> Fraction:
        """The ratio as the nearest fraction whose denominator is at most `FINEST_RATIO`."""
        return Fraction(self.ratio).limit_denominator(FINEST_RATIO)


class RateLimiter:
    """Counts what both sides do, and says which of them may go on.

    Let S be the valid steps inserted after `learning_starts`, U the gradient steps taken, w the
    window, and e = ratio S - U the gradient steps that the learner lags behind. Let k be
    `updates_at_once`, and L what the ratio demands for the whole budget, once that is known (see
    `ends_at`). Then

    - an insert is admitted where e < w, or where the learner cannot sample (before
      `learning_starts`, or while the store holds no row), or where U + k > L. However large the
      segment is, any room before it is enough;
    - n gradient steps may be taken where e >= n - w, so that U never exceeds ratio S by more than
      w, where U + n <= L, and where the learner can sample.

    Never are both sides blocked:

    - While the learner cannot sample, inserts are admitted. `learning_starts` counts what was
      inserted, not what is still there: a ring that is smaller than it delays nothing.
    - Else, where inserts are blocked, e >= w and U + k <= L. The settings hold k to 2 w (to
      2 floor(w), to be exact), and w to 1 at least: so e >= k - w, and k gradient steps may be
      taken. Each lowers e by 1, so that inserts are admitted again after a bounded number.
    - Where k gradient steps are blocked, e < k - w <= w or U + k > L: an insert is admitted, and
      each valid step of it raises e by the ratio.

    None of this says how e came about. It holds after a segment that is larger than the window (e
    is far above w: only the learner moves), and after a restart from any counts.

    After a restart, gradient steps that were lost with the process (the checkpoint that they come
    from is older than the rows) are made good while inserts wait. The other way round, where more
    gradient steps were taken than the rows at hand account for (the ring is lost with the process,
    or the ratio was larger then), the ratio holds from there on, as if the learner were one window
    ahead.

    At the end of the budget nothing more is inserted, and what is due is what the ratio still
    demands. So a run ends, and with U = floor(ratio S): whoever ran ahead, the number of gradient
    steps of a whole run does not depend on it.

    Args:
        settings: What to hold.
        steps: Valid steps inserted so far.
        updates: Gradient steps taken so far.
        can_sample: Whether the store holds anything to sample.

    Attributes:
        settings: The same.
        steps: Valid steps inserted.
        updates: Gradient steps taken.
        finished: Whether nothing more is inserted.
    """

    def __init__(
        self,
        settings: LimiterSettings,
        *,
        steps: int = 0,
        updates: int = 0,
        can_sample: Callable[[], bool] = lambda: True,
    ) -> None:
        if min(steps, updates) < 0:
            raise InvalidFieldError("steps, updates", f"{steps}, {updates}: neither is below 0")
        self.settings = settings
        self.steps = steps
        self.updates = updates
        self.finished = False
        self._can_sample = can_sample
        # Whole numbers from here on: e x denominator is _per_step S - _per_update U.
        self._per_step, self._per_update = settings.fraction.as_integer_ratio()
        self._window = math.floor(settings.window * self._per_update)
        self._limit: int | None = None
        self._unaccounted = 0
        self._unaccounted = max(0, -self._due(self._window))

    @property
    def ratio(self) -> float:
        """Gradient steps for each step after `learning_starts` so far; 0 before any."""
        steps = self._counted_steps()
        return (self.updates - self._unaccounted) / steps if steps else 0.0

    def may_insert(self) -> bool:
        """Whether a segment of any size may be inserted now."""
        if self.finished:
            return False
        if not self._is_learning() or self._lag() < self._window:
            return True
        return self._left() < self.settings.updates_at_once

    def inserted(self, steps: int) -> None:
        """Counts the valid steps of an insert."""
        self.steps += steps

    def due(self) -> int:
        """How many gradient steps may be taken now, running ahead included."""
        return self.owed() if self.finished else min(self._allowed(self._window), self._left())

    def owed(self) -> int:
        """How many gradient steps the ratio demands for what is inserted, and no more."""
        return self._allowed(0)

    def updated(self, count: int) -> None:
        """Counts gradient steps."""
        self.updates += count

    def ends_at(self, steps: int) -> None:
        """So many valid steps are inserted in all: nobody runs ahead of what they demand."""
        counted = max(0, steps - self.settings.learning_starts)
        self._limit = self._per_step * counted // self._per_update

    def finish(self) -> None:
        """Nothing more will be inserted: what is owed is all that is due."""
        self.finished = True

    def metrics(self) -> dict[str, float]:
        """`replay/ratio`, and `replay/lag`: e of the class's text."""
        return {"replay/ratio": self.ratio, "replay/lag": self._lag() / self._per_update}

    def _counted_steps(self) -> int:
        return max(0, self.steps - self.settings.learning_starts)

    def _is_learning(self) -> bool:
        return self.steps >= self.settings.learning_starts and self._can_sample()

    def _lag(self) -> int:
        """The denominator of the ratio times e."""
        updates = self.updates - self._unaccounted
        return self._per_step * self._counted_steps() - self._per_update * updates

    def _due(self, ahead: int) -> int:
        """The whole gradient steps between here and e = -ahead; negative beyond it."""
        return (self._lag() + ahead) // self._per_update

    def _left(self) -> int:
        """How many gradient steps the rest of the budget demands at most."""
        if self._limit is None:
            return sys.maxsize
        return max(0, self._limit - (self.updates - self._unaccounted))

    def _allowed(self, ahead: int) -> int:
        return max(0, self._due(ahead)) if self._is_learning() else 0
