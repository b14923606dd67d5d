"""How a run ends: saved, written down, told to whoever listens, and to its samplers."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from learner.front.interface import DrainingError
from learner.observer import CallbackError
from learner.outcome import Outcome, Status

if TYPE_CHECKING:
    from learner.training.run import Run


def end(run: Run, status: Status, error: str | None = None, *, save: bool = True) -> Outcome:
    """Saves everything, writes the result down, waits until samplers know that it is over."""
    finished = status == Status.FINISHED
    try:
        try:
            if save:
                run.save()
        except CallbackError as failure:
            status, error = Status.FAILED, error or str(failure)
        outcome = _announced(run, _outcome(run, status, error))
        run.metrics.close()
        run.folder.write_result(outcome.to_json())
    finally:
        if finished:
            _wait_for_farewells(run)
    return outcome


def _announced(run: Run, outcome: Outcome) -> Outcome:
    """The outcome, once observers were told; one that fails over it fails the run."""
    try:
        run.observers.ended(outcome)
    except CallbackError as failure:
        error = outcome.error or str(failure)
        return dataclasses.replace(outcome, status=Status.FAILED, error=error)
    return outcome


def _outcome(run: Run, status: Status, error: str | None) -> Outcome:
    with run.front.locked() as coordinator:
        losses = coordinator.ledger.losses()
    return Outcome(
        status=status,
        folder=run.folder.path,
        environment_steps=run.steps,
        version=run.version,
        seconds=run.seconds,
        first_update_seconds=run.first_update_seconds,
        final=run.final,
        metrics=run.metrics.newest,
        losses={reason.value: dataclasses.asdict(loss) for reason, loss in losses.items()},
        error=error,
        stop_reason=run.observers.stop_reason,
        first_step=run.first_step,
    )


def _wait_for_farewells(run: Run) -> None:
    with contextlib.suppress(DrainingError):
        run.front.wait(lambda c: c.all_informed(run.front.now()) or None)
        if run.folder.is_finished:
            run.folder.note_farewells()
