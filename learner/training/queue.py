"""Asynchronous on-policy training: an update of whatever came first, from several versions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from learner.experience.segment_queue import BatchBuffer
from learner.staleness import PublishingInterval, StalenessSettings
from learner.training.beside import Beside
from learner.training.rounds import slots_there

if TYPE_CHECKING:
    from learner.algorithms.base import OnPolicyAlgorithm
    from learner.algorithms.lag import LagConfig
    from learner.experience.segment_queue import Fragment
    from learner.front.coordinator import Coordinator
    from learner.training.run import Run

COUNTER = "train/n_updates"


def train_from_queue(run: Run, algorithm: OnPolicyAlgorithm[Any], config: LagConfig) -> None:
    """Samplers push and the learner learns, each as fast as it can; experience is used once.

    Raises:
        DrainingError: The front drains.
        CallbackError: An observer failed.
        InvalidFieldError: So many slots, where `n_envs` is `auto`, that too much would be stale.
    """
    first = run.open(fragment_rows=algorithm.n_steps)
    settings = config.staleness(algorithm.n_envs or run.front.wait(slots_there))
    training = _QueueTraining(run, algorithm, settings)
    with run.offering(first) as coordinator:
        coordinator.open_queue(run.front.now(), settings, training.interval)
    run.observers.began(run.version)
    training.train()
    with run.offering(run.publish()):
        pass


class _QueueTraining:
    def __init__(
        self, run: Run, algorithm: OnPolicyAlgorithm[Any], settings: StalenessSettings
    ) -> None:
        self.interval = PublishingInterval(settings)
        self._run = run
        self._algorithm = algorithm
        self._beside = Beside(run)
        self._buffer = BatchBuffer(
            algorithm.signature.columns,
            rows=algorithm.n_steps,
            fragments=settings.batch_fragments,
        )
        self._reports: list[dict[str, float]] = []
        self._updating = 0.0

    def train(self) -> None:
        while self._run.observers.stop_reason is None and (taken := self._beside.wait(_taken)):
            self._learn(taken)
            self._look()
        if self._reports or self._beside.has_moved:
            self._record()

    def _learn(self, taken: list[Fragment]) -> None:
        begun = time.perf_counter()
        report = self._algorithm.update(self._buffer.gather(taken), self._run.progress)
        if report:
            self._reports.append(report)
        self._run.updates += 1
        self._run.take(0, rows=sum(fragment.rows for fragment in taken))
        self._updating += time.perf_counter() - begun

    def _look(self) -> None:
        """Publishes and records where it is due."""
        run = self._run
        with run.front.locked() as coordinator:
            run.take(coordinator.environment_steps - run.steps)
            is_due = coordinator.is_publication_due
        if is_due and self._beside.may_publish():
            with run.offering(run.publish()):
                pass
        if self._beside.is_record_due(run.steps):
            self._record()

    def _record(self) -> None:
        timing = {"time/update_seconds": self._updating}
        reports, self._reports, self._updating = self._reports, [], 0.0
        self._beside.record(_means(reports), timing)


def _taken(coordinator: Coordinator) -> list[Fragment] | None:
    """The fragments of the next update; empty when there will be none, None while there is none."""
    taken = coordinator.take_fragments()
    return taken if taken or coordinator.budget_met else None


def _means(reports: list[dict[str, float]]) -> dict[str, float]:
    """Means over updates by name; of the counter of updates, the newest."""
    if not reports:
        return {}
    names = reports[-1]
    means = {name: sum(each[name] for each in reports) / len(reports) for name in names}
    return means | {COUNTER: names[COUNTER]} if COUNTER in names else means
