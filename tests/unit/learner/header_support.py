"""Totals whose every number follows from one, so that a mixture of two of them shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.ledger import Loss, LossReason
from learner.totals import RingCursor, SamplerTotals, Totals

if TYPE_CHECKING:
    from learner.header import MappedHeader

REASONS = (LossReason.STALE, LossReason.REFUSED)


def fill(totals: Totals, count: int) -> None:
    """Sets totals to the ones of this count; the samplers change every few counts."""
    totals.environment_steps = count
    totals.rows = 3 * count
    totals.ring = RingCursor(5 * count, count % 7)
    for reason in REASONS[: count % 3]:
        totals.losses[reason] = Loss(count, 2 * count)
    totals.samplers[f"sampler-{count // 5:08d}"] = SamplerTotals()
    for i, sampler in enumerate(totals.samplers.values()):
        sampler.sequence, sampler.rows = count + i, 11 * count
    if len(totals.samplers) > 4:
        del totals.samplers[next(iter(totals.samplers))]


def filled(count: int) -> Totals:
    """What `fill` makes when it is called with every count up to this one."""
    totals = Totals()
    for each in range(1, count + 1):
        fill(totals, each)
    return totals


def abandon(header: MappedHeader) -> None:
    """Lets go of the file as a killed process does."""
    header._file.close()
    header._file = None
