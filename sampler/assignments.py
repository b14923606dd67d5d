"""Which worker has which tasks: deals the work of the grants out and knows what is outstanding."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sampler import evaluating
from sampler.pool import EvaluateTask, RollTask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sampler.collecting import CollectWork
    from sampler.evaluating import EvaluateWork
    from sampler.pool import Pool

_ROLLS_A_WORKER = 2
"""One that is rolled and one behind it, so that a worker never waits for the supervisor."""


@dataclasses.dataclass(frozen=True)
class _Roll:
    worker: int
    work: CollectWork
    slots: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Play:
    worker: int
    work: EvaluateWork
    seeds: tuple[int, ...]


class Assignments:
    """The tasks that a pool has. Task ids are never used again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._last_task = 0
        self._rolls: dict[int, _Roll] = {}
        self._plays: dict[int, _Play] = {}
        self._dealt_last = [0] * pool.workers

    def reset(self) -> None:
        """The pool has dropped all tasks."""
        self._rolls.clear()
        self._plays.clear()

    def deal_rolls(self, works: Sequence[CollectWork]) -> None:
        """Gives every worker the rolling that there is for it, first to those without any.

        Args:
            works: What the policy of the pool may roll for, the first one first.
        """
        for load in range(_ROLLS_A_WORKER):
            # Who was dealt to longest ago comes first: where there is not enough for all, workers
            # take turns.
            for worker in sorted(range(self._pool.workers), key=self._dealt_last.__getitem__):
                if sum(roll.worker == worker for roll in self._rolls.values()) == load:
                    self._deal_roll(worker, works)

    def _deal_roll(self, worker: int, works: Sequence[CollectWork]) -> None:
        for work in works:
            slots = work.take(worker)
            if slots:
                task = RollTask(self._new_task(), slots, work.rows, newest=work.or_newer)
                self._rolls[task.task_id] = _Roll(worker, work, slots)
                self._dealt_last[worker] = task.task_id
                self._pool.submit(worker, task)
                return

    def deal_plays(self, work: EvaluateWork) -> None:
        """Gives seeds to every worker that plays none.

        The policy of `work.version` is the pool's evaluation policy.
        """
        count = evaluating.share(work.pending, self._pool.workers, self._pool.slots_per_worker)
        busy = {play.worker for play in self._plays.values()}
        for worker in range(self._pool.workers):
            if worker not in busy and work.pending:
                task = EvaluateTask(self._new_task(), work.version, work.take(count))
                self._plays[task.task_id] = _Play(worker, work, task.seeds)
                self._pool.submit(worker, task)

    def _new_task(self) -> int:
        self._last_task += 1
        return self._last_task

    def rolled(self, task_id: int) -> CollectWork | None:
        """Takes a roll task off the list; None where it is not on it (it was cancelled)."""
        roll = self._rolls.pop(task_id, None)
        return roll.work if roll else None

    def played(self, task_id: int) -> EvaluateWork | None:
        """Takes an evaluate task off the list; None where it is not on it (it was cancelled)."""
        play = self._plays.pop(task_id, None)
        return play.work if play else None

    def lost(self, task_ids: Iterable[int]) -> None:
        """A worker took these tasks with it: their work is to be done by others."""
        for task_id in task_ids:
            if (roll := self._rolls.pop(task_id, None)) is not None:
                roll.work.give_back(roll.slots)
            if (play := self._plays.pop(task_id, None)) is not None:
                play.work.give_back(play.seeds)

    def cancel(self, grant_ids: Collection[int]) -> None:
        """Calls off the tasks of grants that are over."""
        tasks: dict[int, _Roll | _Play] = {**self._rolls, **self._plays}
        cancelled = [i for i, task in tasks.items() if task.work.grant_id in grant_ids]
        for task_id in cancelled:
            self._rolls.pop(task_id, None)
            self._plays.pop(task_id, None)
        if cancelled:
            self._pool.cancel(cancelled)
