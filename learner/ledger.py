"""The loss ledger: everything that was pushed and not trained on, counted by reason."""

from __future__ import annotations

import dataclasses
import enum


class LossReason(enum.StrEnum):
    """Why trajectories were lost. Also the name of the metric `ledger/<reason>_pushes`."""

    STALE = "stale"
    """The grant was over or never known, or the policy too old when the push came."""
    AGED = "aged"
    """The policy was too old by the time that the rows would have been trained on."""
    ENDED = "ended"
    """The step budget was met already."""
    REFUSED = "refused"
    """Malformed, or larger than a limit."""
    UNKNOWN_SAMPLER = "unknown_sampler"
    """The sampler's session was over."""
    SEQUENCE_GAP = "sequence_gap"
    """A sequence that never arrived."""
    LOST_IN_RESTART = "lost_in_restart"
    """Accepted by an earlier learner process after its last checkpoint, and lost with it."""
    BEYOND_BUDGET = "beyond_budget"
    """Valid rows of the last round that exceed the step budget."""
    ABANDONED = "abandoned"
    """Fragments of a round that was still open, or of a queue not yet trained on, when the run was
    ended."""
    BROKEN_EPISODE = "broken_episode"
    """Accepted rows of an episode that never became whole, where only whole ones are learned from:
    rows of its slot are missing, or the replay is too small for the open episodes."""


@dataclasses.dataclass(frozen=True)
class Loss:
    """Totals of one reason; `rows` are 0 where a push never arrived and nobody knows its rows."""

    pushes: int = 0
    rows: int = 0


class Ledger:
    """Losses by reason; they only grow.

    Args:
        losses: What was lost so far; it is this that grows.
    """

    def __init__(self, losses: dict[LossReason, Loss] | None = None) -> None:
        self._losses = {} if losses is None else losses

    def add(self, reason: LossReason, *, pushes: int = 0, rows: int = 0) -> None:
        """Counts a loss."""
        before = self[reason]
        self._losses[reason] = Loss(before.pushes + pushes, before.rows + rows)

    def __getitem__(self, reason: LossReason) -> Loss:
        """The totals of a reason, zero where nothing was lost for it."""
        return self._losses.get(reason, Loss())

    def losses(self) -> dict[LossReason, Loss]:
        """A copy of all totals that are not zero, in the order of the reasons."""
        return {reason: self._losses[reason] for reason in LossReason if reason in self._losses}

    def metrics(self) -> dict[str, float]:
        """The totals by metric name, such as `ledger/stale_rows`."""
        found: dict[str, float] = {}
        for reason, loss in self.losses().items():
            found[f"ledger/{reason}_pushes"] = loss.pushes
            found[f"ledger/{reason}_rows"] = loss.rows
        return found
