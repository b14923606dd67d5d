"""A run as training sees it: what is trained, how far it is, and its record."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

from common.errors import UnsupportedSpaceError
from common.logging import Logger
from learner import policy_file
from learner.checkpoints import Checkpoints
from learner.evaluation_plan import EvaluationPlan
from learner.exploration import Ladder
from learner.front.interface import DrainingError
from learner.ledger import Loss, LossReason
from learner.metrics import Metrics
from learner.observer import CallbackError, Observer, Observers
from learner.outcome import Outcome, Status
from learner.publishing.publisher import Publisher
from learner.stopping import StopAtReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from learner.algorithms.base import Algorithm
    from learner.exploration import Exploration
    from learner.front.coordinator import Coordinator
    from learner.front.interface import Front
    from learner.metrics import Evaluation
    from learner.publishing.publication import Publication
    from learner.statistics import FinishedEpisode
    from learner.training.job import Job

_log = Logger()


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
    """

    def __init__(self, job: Job, front: Front, observer: Observer | None) -> None:
        self.job = job
        self.config = job.config
        self.folder = job.folder
        self.header = job.header
        self.front = front
        self.steps = job.header.totals.environment_steps
        self.rows = self.updates = 0
        self.plan = EvaluationPlan(job.config, after=self.steps or -1)
        # A run that was killed before its first checkpoint has nothing but its header.
        self._is_resumed = job.header.totals.restarts > 0
        stop = StopAtReturn(job.config.stop_at_return)
        self._metrics = Metrics(
            job.folder, resumed=self._is_resumed, observer=Observers([stop, observer or Observer()])
        )
        self.observers = self._metrics.observers
        self._checkpoints = Checkpoints(job.folder.checkpoints, kept=job.config.checkpoints_kept)
        self._algorithm: Algorithm[Any] | None = None
        self._publisher: Publisher | None = None
        self._publication: Publication | None = None
        self._final: Evaluation | None = None
        self._first_step = self.steps
        self._last_version = job.header.totals.reserved_version
        self._started = self._opened = self._last_checkpoint = time.perf_counter()
        self._checkpoint_failures = 0
        self._first_update: float | None = None

    @property
    def version(self) -> int:
        """The newest policy published; 0 for none."""
        return self._publication.version if self._publication else 0

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of the environment's agents; none for a single one."""
        return self._built[0].spec.agents

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
            values = self.job.resumed.values
            algorithm.load_tensors(self.job.resumed.tensors)
            algorithm.load_values(values["algorithm"])
            self._metrics.episodes.load_values(values["episodes"])
            self.rows, self.updates = values["rows"], values["updates"]
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
        elapsed = time.perf_counter() - self._started
        if self._first_update is None and any(name.startswith("train/") for name in training):
            self._first_update = elapsed
        timing["time/time_elapsed"] = elapsed
        # Of the rolling and training alone: the first sampler may be long in coming.
        rolling = time.perf_counter() - self._opened
        timing["time/fps"] = (self.steps - self._first_step) / rolling
        self._metrics.record(
            version=self.version,
            global_step=self.steps,
            episodes=episodes,
            training=training,
            timing=timing,
        )
        with self.front.locked() as coordinator:
            coordinator.set_metrics(self._metrics.newest)
            evaluations = self.plan.collect(coordinator)
        self._take(evaluations)
        if time.perf_counter() - self._last_checkpoint >= self.config.checkpoint_seconds:
            self._checkpoint()

    def _take(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            if evaluation.final:
                self._final = evaluation
            self._metrics.evaluation(evaluation)

    def evaluate_final(self) -> None:
        """Evaluates the newest policy, after what is outstanding, then says FINISH."""
        with self.front.locked() as coordinator:
            coordinator.stop_collecting()
            self.plan.start_final(coordinator, self.front.now(), self.steps)
        while self.plan.is_running:
            self._take(self.front.wait(lambda coordinator: self.plan.collect(coordinator) or None))
        done = f"{self.steps} of {self.config.total_steps} steps done"
        with self.front.locked() as coordinator:
            coordinator.set_metrics(self._metrics.newest)
            coordinator.finish(self.observers.stop_reason or done)

    def _checkpoint(self) -> None:
        """Saves training state and policy; a disk that refuses must not end the training."""
        self._last_checkpoint = time.perf_counter()
        algorithm, publication = self._algorithm, self._publication
        if algorithm is None or publication is None:
            return
        values = {
            "algorithm": algorithm.values(),
            "environment_steps": self.steps,
            "version": publication.version,
            "rows": self.rows,
            "updates": self.updates,
            "episodes": self._metrics.episodes.values(),
        }
        policy = policy_file.SavedPolicy(
            self.job.algorithm.name,
            publication.version,
            self.steps,
            self.config.evaluation_environment(),
            algorithm.spec,
            algorithm.signature,
            _as_lists(algorithm.scalars(self.steps)),
            publication.model,
        )
        try:
            self._checkpoints.save(algorithm.tensors(), values)
            policy_file.save(self.folder, policy)
        except OSError as error:
            _log.error("checkpoint_not_written", reason=str(error))
            self._checkpoint_failures += 1
        else:
            self._checkpoint_failures = 0
            self.observers.checkpointed(self.steps)
        with self.front.locked() as coordinator:
            coordinator.set_metrics({"checkpoint/failures_in_a_row": self._checkpoint_failures})

    def end(self, status: Status, error: str | None = None, *, save: bool = True) -> Outcome:
        """Saves everything, writes the result down, waits until samplers know that it is over."""
        finished = status == Status.FINISHED
        try:
            try:
                if save:
                    self._checkpoint()
            except CallbackError as failure:
                status, error = Status.FAILED, error or str(failure)
            outcome = self._announced(self._outcome(status, error))
            self._metrics.close()
            self.folder.write_result(outcome.to_json())
        finally:
            if finished:
                self._wait_for_farewells()
        return outcome

    def _announced(self, outcome: Outcome) -> Outcome:
        """The outcome, once observers were told; one that fails over it fails the run."""
        try:
            self.observers.ended(outcome)
        except CallbackError as failure:
            error = outcome.error or str(failure)
            return dataclasses.replace(outcome, status=Status.FAILED, error=error)
        return outcome

    def _outcome(self, status: Status, error: str | None) -> Outcome:
        with self.front.locked() as coordinator:
            losses = coordinator.ledger.losses()
        return Outcome(
            status=status,
            folder=self.folder.path,
            environment_steps=self.steps,
            version=self.version,
            seconds=time.perf_counter() - self._started,
            first_update_seconds=self._first_update,
            final=self._final,
            metrics=self._metrics.newest,
            losses={reason.value: dataclasses.asdict(loss) for reason, loss in losses.items()},
            error=error,
            stop_reason=self.observers.stop_reason,
            first_step=self._first_step,
        )

    def _wait_for_farewells(self) -> None:
        with contextlib.suppress(DrainingError):
            self.front.wait(lambda c: c.all_informed(self.front.now()) or None)
            if self.folder.is_finished:
                self.folder.note_farewells()


def _as_lists(scalars: Mapping[str, Exploration]) -> dict[str, list[float]]:
    """As a saved policy has them: the values of a ladder's first rung for any slot."""
    return {
        key: value.values(0, 1, 1)
        if isinstance(value, Ladder)
        else [value]
        if isinstance(value, int | float)
        else list(value)
        for key, value in scalars.items()
    }
