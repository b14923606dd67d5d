"""A run as training sees it: what is trained, how far it is, and what is told of it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from common.errors import UnsupportedSpaceError
from learner.evaluation_plan import EvaluationPlan
from learner.front.interface import DrainingError
from learner.ledger import Loss, LossReason
from learner.metrics import Metrics
from learner.observer import Observer, Observers
from learner.publishing.publisher import Publisher
from learner.stopping import StopAtReturn
from learner.training.saving import Counters, Saving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from learner.algorithms.base import Algorithm
    from learner.front.coordinator import Coordinator
    from learner.front.interface import Front
    from learner.metrics import Evaluation
    from learner.publishing.publication import Publication
    from learner.statistics import FinishedEpisode
    from learner.training.job import Job


class Run:
    """Everything about a run that does not depend on the way of training.

    Attributes:
        job: What to train.
        front: Where experience comes from.
        observers: Who is told.
        plan: When the policy is evaluated.
        steps: Environment steps that count towards the budget, as far as training knows.
        rows: Rows of rounds or a queue that are in the parameters, over all processes of the run.
        updates: Gradient steps from replay or batches from a queue that are in the parameters.
        metrics: Its numbers, and the record of them.
        final: The evaluation of the final policy; None before it.
        first_step: Environment steps before this process.
        first_update_seconds: After how long the first update was through; None before it.
    """

    def __init__(self, job: Job, front: Front, observer: Observer | None) -> None:
        self.job = job
        self.config = job.config
        self.folder = job.folder
        self.header = job.header
        self.front = front
        self.steps = job.header.totals.environment_steps
        self.rows = self.updates = 0
        self.first_step = self.steps
        self.first_update_seconds: float | None = None
        self.final: Evaluation | None = None
        self.plan = EvaluationPlan(job.config, after=self.steps or -1)
        # A run that was killed before its first checkpoint has nothing but its header.
        self._is_resumed = job.header.totals.restarts > 0
        stop = StopAtReturn(job.config.stop_at_return)
        self.metrics = Metrics(
            job.folder, resumed=self._is_resumed, observer=Observers([stop, observer or Observer()])
        )
        self.observers = self.metrics.observers
        self._saving = Saving(job, self.metrics)
        self._algorithm: Algorithm[Any] | None = None
        self._publisher: Publisher | None = None
        self._publication: Publication | None = None
        self._last_version = job.header.totals.reserved_version
        self._started = self._opened = time.perf_counter()

    @property
    def version(self) -> int:
        """The newest policy published; 0 for none."""
        return self._publication.version if self._publication else 0

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of the environment's agents; none for a single one."""
        return self._built[0].spec.agents

    @property
    def seconds(self) -> float:
        """How long this process has been at it."""
        return time.perf_counter() - self._started

    @property
    def is_over(self) -> bool:
        """Whether the step budget is met."""
        return self.steps >= self.config.total_steps

    @property
    def goes_on(self) -> bool:
        """Whether there is more to train, and nobody had enough."""
        return not self.is_over and self.observers.stop_reason is None

    @property
    def progress(self) -> float:
        """The share of the step budget that is spent, in [0, 1]."""
        return self.steps / self.config.total_steps

    def build(self) -> Algorithm[Any]:
        """The algorithm for the environment that the first sampler found, in the state to go on in.

        Samplers' registrations wait meanwhile, in the front's own thread.

        Raises:
            DrainingError: The front drains.
            InvalidFieldError: The state to go on from is of another algorithm or network.
            UnsupportedSpaceError: The algorithm cannot learn in the environment.
        """
        self.observers.opened(self.folder, resumed=self._is_resumed)
        spec = self.front.wait(lambda coordinator: coordinator.spec)
        try:
            algorithm = self.job.algorithm(
                spec, self.job.hyperparameters, device=self.job.device, seed=self.config.seed
            )
        except UnsupportedSpaceError as error:
            with self.front.locked() as coordinator:
                coordinator.refuse_environment(str(error))
            raise
        if self.job.resumed is not None:
            counters = self._saving.restore(algorithm, self.job.resumed)
            self.rows, self.updates = counters.rows, counters.updates
        elif self.job.initial is not None:
            algorithm.begin_from(self.job.initial)
        self._algorithm = algorithm
        self._publisher = Publisher(algorithm.behaviour, cache=self.job.graphs)
        return algorithm

    @property
    def _built(self) -> tuple[Algorithm[Any], Publisher]:
        if self._algorithm is None or self._publisher is None:
            raise ValueError("build comes first")
        return self._algorithm, self._publisher

    def open(self, *, fragment_rows: int) -> Publication:
        """Lets samplers in; answers the first policy to offer.

        Args:
            fragment_rows: T of what will be granted.
        """
        publication = self.publish()
        self._opened = time.perf_counter()
        with self.front.locked() as coordinator:
            coordinator.open_run(self._built[0].signature, fragment_rows=fragment_rows)
        return publication

    @property
    def untrained_rows(self) -> int:
        """Rows of rounds or a queue that are neither in the parameters nor in the ledger.

        When a process begins they are those that were acknowledged after the checkpoint that it
        goes on from, in a round that never closed, or waited in a queue. Of a run that is killed
        again before its next checkpoint, what was counted then is not counted twice.
        """
        totals = self.header.totals
        counted = (LossReason.LOST_IN_RESTART, LossReason.ABANDONED, LossReason.AGED)
        losses = (totals.losses.get(reason, Loss()) for reason in counted)
        return totals.rows - self.rows - sum(loss.rows for loss in losses)

    def count_lost(self, rows: int) -> None:
        """Puts rows into the ledger that an earlier process of the run took to its grave."""
        if rows:
            with self.front.locked() as coordinator:
                coordinator.ledger.add(LossReason.LOST_IN_RESTART, rows=rows)
                self.header.commit()

    def publish(self) -> Publication:
        """The parameters as they are now as a version that nobody ever saw before.

        Raises:
            OSError: The version could not be reserved on the disk.
        """
        self._last_version += 1
        self.header.reserve_version(self._last_version)
        return self._built[1].publish(self._last_version)

    @contextlib.contextmanager
    def offering(self, publication: Publication) -> Iterator[Coordinator]:
        """Publishes under one lock with what the caller does: one answer brings samplers both."""
        self._publication = publication
        with self.front.locked() as coordinator:
            coordinator.publish(publication, self._built[0].scalars(self.steps))
            yield coordinator
            if not self.is_over:
                self.plan.start_due(coordinator, self.front.now(), self.steps)

    def check_draining(self) -> None:
        """Leaves what is being trained at, once the front drains.

        Raises:
            DrainingError: It does.
        """
        if self.front.draining:
            raise DrainingError

    def take(self, steps: int, *, rows: int = 0) -> None:
        """Notes that so many more environment steps of the budget are spent."""
        self.steps += steps
        self.rows += rows

    def record(
        self,
        episodes: Sequence[FinishedEpisode],
        training: dict[str, float],
        timing: dict[str, float],
    ) -> None:
        """Writes down how far training is, tells whoever wants to know, saves where it is due.

        Args:
            episodes: Training episodes that ended since the last record.
            training: What updates reported.
            timing: What depends on the machine, by names that begin with `time/`.

        Raises:
            CallbackError: An observer failed.
        """
        elapsed = self.seconds
        is_update = any(name.startswith("train/") for name in training)
        if is_update and self.first_update_seconds is None:
            self.first_update_seconds = elapsed
        timing["time/time_elapsed"] = elapsed
        # Of the rolling and training alone: the first sampler may be long in coming.
        rolling = time.perf_counter() - self._opened
        timing["time/fps"] = (self.steps - self.first_step) / rolling
        self.metrics.record(
            version=self.version,
            global_step=self.steps,
            episodes=episodes,
            training=training,
            timing=timing,
        )
        with self.front.locked() as coordinator:
            coordinator.set_metrics(self.metrics.newest)
            evaluations = self.plan.collect(coordinator)
        self._take(evaluations)
        if self._saving.is_due:
            self.save()

    def _take(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            if evaluation.final:
                self.final = evaluation
            self.metrics.evaluation(evaluation)

    def evaluate_final(self) -> None:
        """Evaluates the newest policy, after what is outstanding, then says FINISH."""
        with self.front.locked() as coordinator:
            coordinator.stop_collecting()
            self.plan.start_final(coordinator, self.front.now(), self.steps)
        while self.plan.is_running:
            self._take(self.front.wait(lambda coordinator: self.plan.collect(coordinator) or None))
        done = f"{self.steps} of {self.config.total_steps} steps done"
        with self.front.locked() as coordinator:
            coordinator.set_metrics(self.metrics.newest)
            coordinator.finish(self.observers.stop_reason or done)

    def save(self) -> None:
        """Saves training state and policy, where there are any.

        Raises:
            CallbackError: An observer failed.
        """
        if self._algorithm is None or self._publication is None:
            return
        counters = Counters(self.steps, self.rows, self.updates)
        failures = self._saving.save(self._algorithm, self._publication, counters)
        with self.front.locked() as coordinator:
            coordinator.set_metrics({"checkpoint/failures_in_a_row": failures})
