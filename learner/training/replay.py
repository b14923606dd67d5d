"""Training from replay: beside the samplers, or in rounds.

Beside them, samplers push whenever they have something, and gradient steps are taken whenever the
replay ratio asks for some; the limiter slows whichever side runs ahead. In rounds, each side waits
for the other, and the same seed gives the same run.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from common.errors import InvalidFieldError
from learner.experience.on_policy import Segment
from learner.ledger import Loss, LossReason
from learner.rate_limiter import LimiterSettings, RateLimiter
from learner.totals import RingCursor
from learner.training.beside import Beside
from learner.training.rounds import train_in_rounds

if TYPE_CHECKING:
    from learner.algorithms.from_store import StoreAlgorithm
    from learner.experience.on_policy import OnPolicyBatch
    from learner.front.coordinator import Coordinator
    from learner.training.run import Run

TURN = 8
"""Gradient steps between two looks at the front: often enough for pushes that wait, and seldom
enough to cost nothing."""

_SHOWN = {"epsilon": "exploration_rate"}
"""Exploration values that Stable-Baselines3 has another name for."""

IN_FLIGHT_SHARE = 0.01
"""Of the step budget: few enough steps that the policy is not old, for any number of samplers."""


class ReplayTraining:
    """The store of a run, its limiter and the gradient steps."""

    def __init__(self, run: Run, algorithm: StoreAlgorithm[Any]) -> None:
        config = algorithm.config
        totals = run.header.totals
        on_disk = config.replay_storage == "disk"
        self.run = run
        self.algorithm = algorithm
        self.in_flight = config.rows_in_flight or math.ceil(
            run.config.total_steps * IN_FLIGHT_SHARE
        )
        self.store = algorithm.store(
            seed=run.config.seed,
            folder=run.folder.replay if on_disk else None,
            cursor=totals.ring if on_disk else self._without_memory(),
        )
        run.count_lost(self.store.damaged * config.segment_length)
        window = config.replay_ratio * (config.replay_window or self.in_flight)
        # What is in memory only is gone after a restart, and learning starts again when there is
        # as much as at first; what is in files is still owed its gradient steps.
        kept = on_disk and self.store.size > 0
        self.limiter = RateLimiter(
            LimiterSettings(config.replay_ratio, config.learning_starts, max(1.0, window)),
            steps=totals.environment_steps if kept else 0,
            updates=run.updates if kept else 0,
            can_sample=lambda: self.store.size > 0,
        )
        self._sampling = self._updating = 0.0

    def _without_memory(self) -> RingCursor:
        """Counts what an earlier process had in memory as lost; where an empty replay begins.

        That is what was in its replay, and what it had acknowledged of rounds that did not get
        there. Blocks are numbered on from all that the run ever acknowledged, so that one that is
        left in files from an earlier time is never taken for one of this.
        """
        totals, rows = self.run.header.totals, self.algorithm.config.segment_length
        abandoned = totals.losses.get(LossReason.ABANDONED, Loss()).rows
        ring, blocks = totals.ring, (totals.rows - abandoned) // rows
        lost = ring.resident + max(0, blocks - ring.written)
        totals.ring = RingCursor(written=blocks)
        self.run.count_lost(lost * rows)
        return totals.ring

    def learn(self, updates: int) -> None:
        """Takes so many gradient steps.

        Raises:
            DrainingError: The front drains; those before it are taken.
        """
        algorithm, store = self.algorithm, self.store
        size, progress = algorithm.config.batch_size, self.run.progress
        beta = algorithm.beta(progress)
        for _ in range(updates):
            self.run.check_draining()
            begun = time.perf_counter()
            batch = store.sample(size, beta=beta)
            sampled = time.perf_counter()
            errors = algorithm.update(batch, progress)
            if errors is not None:
                store.update_priorities(batch, errors.cpu().numpy())
            self._sampling += sampled - begun
            self._updating += time.perf_counter() - sampled
            self.run.updates += 1

    def metrics(self) -> dict[str, float]:
        """What the updates since the last call reported, and how much is explored now."""
        scalars = self.algorithm.scalars(self.run.steps)
        explored = {
            f"rollout/{_SHOWN.get(key, key)}": float(value)
            for key, value in scalars.items()
            if isinstance(value, int | float)
        }
        return explored | self.algorithm.metrics()

    def timing(self) -> dict[str, float]:
        """Seconds since the last call that drawing from replay and gradient steps took."""
        found = {
            "time/sample_seconds": self._sampling,
            "time/update_seconds": self._updating,
        }
        self._sampling = self._updating = 0.0
        return found


def train_synchronously(run: Run, algorithm: StoreAlgorithm[Any]) -> None:
    """Rounds: each goes into the replay, then come the gradient steps that it calls for.

    Raises:
        DrainingError: The front drains.
        CallbackError: An observer failed.
    """
    if algorithm.config.replay_storage == "disk":
        raise InvalidFieldError(
            "replay_storage",
            "is disk, which keeps what is acknowledged; with sync a round is acknowledged before "
            "it is in the replay: take memory, or leave sync out",
        )
    training = ReplayTraining(run, algorithm)

    def learn(batch: OnPolicyBatch, _progress: float) -> dict[str, float]:
        before = training.store.discarded
        sampleable = training.store.insert(_segment(batch), batch.keys)
        with run.front.locked() as coordinator:
            if discarded := training.store.discarded - before:
                coordinator.ledger.add(LossReason.BROKEN_EPISODE, rows=discarded)
            run.header.totals.ring = training.store.cursor
            run.header.commit()
        training.limiter.inserted(sampleable)
        updates = training.limiter.owed()
        training.learn(updates)
        training.limiter.updated(updates)
        found = training.metrics() | training.limiter.metrics()
        return {**found, "replay/size": float(training.store.size)}

    config = algorithm.config
    train_in_rounds(run, learn, n_envs=config.n_envs, n_steps=config.segment_length)


def train_asynchronously(run: Run, algorithm: StoreAlgorithm[Any]) -> None:
    """Samplers push and the learner learns, each as fast as the limiter lets it.

    Raises:
        DrainingError: The front drains.
        CallbackError: An observer failed.
    """
    _Asynchronous(run, algorithm).train()


def _segment(batch: OnPolicyBatch) -> Segment:
    """A round as one push of all its fragments; its episodes are told of elsewhere."""
    return Segment(
        batch.columns, batch.final_rows, batch.final_slots, batch.final_columns, episodes=()
    )


class _Asynchronous(ReplayTraining):
    def __init__(self, run: Run, algorithm: StoreAlgorithm[Any]) -> None:
        super().__init__(run, algorithm)
        self._beside = Beside(run)
        self._published_updates = run.updates

    def train(self) -> None:
        run, rows = self.run, self.algorithm.config.segment_length
        first = run.open(fragment_rows=rows)
        with run.offering(first) as coordinator:
            coordinator.open_replay(
                run.front.now(),
                self.store,
                self.limiter,
                fragments_in_flight=max(1, self.in_flight // rows),
            )
        run.observers.began(run.version)
        while run.observers.stop_reason is None and (updates := self._due()) is not None:
            self.learn(updates)
            self._look(updates)
        self._record()
        with run.offering(run.publish()):
            pass

    def _due(self) -> int | None:
        """Gradient steps to take now, 0 where there is only something to look at; None at the end.

        Waits while samplers have not brought enough.
        """
        due = self._beside.wait(self._found)
        return None if due < 0 else min(due, TURN)

    def _found(self, coordinator: Coordinator) -> int | None:
        if due := coordinator.updates_due():
            return due
        if coordinator.budget_met:
            return -1
        return 0 if self._beside.is_record_due(coordinator.environment_steps) else None

    def _look(self, updates: int) -> None:
        """Tells the front of the gradient steps, and does what is due."""
        run = self.run
        with run.front.locked() as coordinator:
            coordinator.updated(updates)
            run.take(coordinator.environment_steps - run.steps)
        if self._beside.may_publish():
            self._publish()
        if self._beside.is_record_due(run.steps):
            self._record()

    def _publish(self) -> None:
        """A new policy where there is one; the exploration of these steps in any case."""
        run = self.run
        if run.updates > self._published_updates:
            self._published_updates = run.updates
            with run.offering(run.publish()):
                return
        with run.front.locked() as coordinator:
            coordinator.set_scalars(self.algorithm.scalars(run.steps))

    def _record(self) -> None:
        self._beside.record(self.metrics(), self.timing())
