"""The books of a run: its step budget, its losses, its curve and the versions that there were."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from learner.front.watching import Curve
from learner.ledger import Ledger
from learner.staleness import Publications

if TYPE_CHECKING:
    from learner.totals import Header


@dataclasses.dataclass(frozen=True)
class Books:
    """What admitted rows are entered in.

    Attributes:
        header: Keeps the step budget.
        total_steps: The budget.
        ledger: What was pushed and is not trained on.
        curve: Of the returns of training episodes.
        publications: The versions that there were.
    """

    header: Header
    total_steps: int
    ledger: Ledger
    curve: Curve = dataclasses.field(default_factory=Curve)
    publications: Publications = dataclasses.field(default_factory=Publications)

    @classmethod
    def opened(cls, header: Header, total_steps: int) -> Books:
        """Those of a process that goes on with what the header says."""
        return cls(header, total_steps, Ledger(header.totals.losses))

    @property
    def environment_steps(self) -> int:
        """Valid steps that count towards the budget; never falls or exceeds it."""
        return self.header.totals.environment_steps

    @property
    def steps_left(self) -> int:
        """How many more may count."""
        return self.total_steps - self.environment_steps

    @property
    def budget_met(self) -> bool:
        """Whether there are as many of them as there may be."""
        return self.steps_left <= 0
