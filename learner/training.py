"""Training: from the first sampler to the evaluation of the final policy.

The loop is the same whether samplers are across the network, processes beside it or pumped in this
one; it sees them through a `Front` only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import torch

from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.logging import Logger
from learner import files, policy_file
from learner.checkpoints import Checkpoints
from learner.evaluation_plan import EvaluationPlan
from learner.front.interface import DrainingError
from learner.metrics import Metrics
from learner.observer import CallbackError
from learner.outcome import Outcome, Status
from learner.publishing.publisher import Publisher
from learner.statistics import finished_episodes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from learner.algorithms.base import OnPolicyAlgorithm
    from learner.config import RunConfig
    from learner.experience.on_policy import OnPolicyBatch
    from learner.front.coordinator import Coordinator
    from learner.front.interface import Front
    from learner.metrics import Evaluation
    from learner.observer import Observer
    from learner.publishing.publication import Publication
    from learner.run_folder import RunFolder

_log = Logger()


@dataclasses.dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        config: The run's settings.
        algorithm: The class.
        hyperparameters: An instance of its `Config`.
        device: Where it computes, as `device_of` gives it.
        folder: Where the record goes.
        graphs: The cache of exported graphs; None for no cache.
        failure: Says why the front was drained, where that was no wish but an error.
    """

    config: RunConfig
    algorithm: type[OnPolicyAlgorithm[Any]]
    hyperparameters: Any
    device: torch.device
    folder: RunFolder
    graphs: Path | None
    failure: Callable[[], str | None] = lambda: None


def train(job: Job, front: Front, observer: Observer | None = None) -> Outcome:
    """Trains until the step budget is met, or the front drains.

    The record and a checkpoint are in the folder when this returns or raises.

    Args:
        job: What to train.
        front: Where experience comes from.
        observer: Who is told.

    Returns:
        How it went; stopped rather than finished where the front drained.

    Raises:
        UnsupportedSpaceError: The algorithm cannot learn in the environment.
        CallbackError: An observer failed.
    """
    torch.set_num_threads(job.config.threads or 1)
    training = _Training(job, front, observer)
    try:
        training.run()
    except DrainingError:
        reason = job.failure()
        return training.end(Status.FAILED if reason else Status.STOPPED, reason)
    except CallbackError as error:
        training.end(Status.FAILED, str(error))
        raise
    except Exception as error:
        training.end(Status.FAILED, f"{type(error).__name__}: {error}", save=False)
        raise
    return training.end(Status.FINISHED)


class _Training:
    def __init__(self, job: Job, front: Front, observer: Observer | None) -> None:
        self._job = job
        self._config = job.config
        self._front = front
        self._metrics = Metrics(job.folder, observer=observer)
        self._observers = self._metrics.observers
        self._plan = EvaluationPlan(job.config)
        self._checkpoints = Checkpoints(job.folder.checkpoints, kept=job.config.checkpoints_kept)
        self._algorithm: OnPolicyAlgorithm[Any] | None = None
        self._publication: Publication | None = None
        self._final: Evaluation | None = None
        self._steps = 0
        self._started = self._last_checkpoint = time.perf_counter()
        self._first_update: float | None = None

    def run(self) -> None:
        self._observers.opened(self._job.folder, resumed=False)
        algorithm, publisher = self._build()
        first = publisher.publish(1)
        with self._front.locked() as coordinator:
            coordinator.open_run(algorithm.signature, fragment_rows=algorithm.n_steps)
        self._offer(first, algorithm)
        self._observers.began(1)
        while self._steps < self._config.total_steps and not self._observers.stop_reason:
            waiting = time.perf_counter()
            batch = self._front.wait(lambda coordinator: coordinator.closed_round())
            updating = time.perf_counter()
            reported = algorithm.update(batch, self._steps / self._config.total_steps)
            steps_before, self._steps = self._steps, self._steps + batch.steps
            publishing = time.perf_counter()
            self._offer(publisher.publish(batch.version + 1), algorithm)
            offered = time.perf_counter()
            timing = {
                "time/wait_seconds": updating - waiting,
                "time/update_seconds": publishing - updating,
                "time/publish_seconds": offered - publishing,
            }
            self._record(batch, steps_before, reported, timing)
            self._checkpoint_if_due()
        self._evaluate_final()

    def _build(self) -> tuple[OnPolicyAlgorithm[Any], Publisher]:
        """The algorithm for the environment that the first sampler found, and its exported policy.

        Samplers' registrations wait meanwhile, in the front's own thread.
        """
        spec = self._front.wait(lambda coordinator: coordinator.spec)
        try:
            algorithm = self._job.algorithm(
                spec, self._job.hyperparameters, device=self._job.device, seed=self._config.seed
            )
        except UnsupportedSpaceError as error:
            with self._front.locked() as coordinator:
                coordinator.refuse_environment(str(error))
            raise
        publisher = Publisher(algorithm.behaviour, cache=self._job.graphs)
        self._algorithm = algorithm
        return algorithm, publisher

    def _offer(self, publication: Publication, algorithm: OnPolicyAlgorithm[Any]) -> None:
        """Publishes a version and opens its round under one lock: one answer brings both."""
        self._publication = publication
        n_envs = algorithm.n_envs or self._front.wait(_slots)
        with self._front.locked() as coordinator:
            coordinator.publish(publication, algorithm.scalars(self._steps))
            now = self._front.now()
            if self._steps < self._config.total_steps:
                coordinator.open_round(now, n_envs=n_envs, n_steps=algorithm.n_steps)
                self._plan.start_due(coordinator, now, self._steps)
            else:
                self._plan.start_final(coordinator, now, self._steps)

    def _record(
        self,
        batch: OnPolicyBatch,
        steps_before: int,
        reported: dict[str, float],
        timing: dict[str, float],
    ) -> None:
        """Writes the round down while samplers roll the next one."""
        elapsed = time.perf_counter() - self._started
        if self._first_update is None:
            self._first_update = elapsed
        timing["time/time_elapsed"] = elapsed
        timing["time/fps"] = self._steps / elapsed
        self._metrics.record(
            version=batch.version + 1,
            global_step=self._steps,
            episodes=finished_episodes(batch, steps_before),
            training=reported,
            timing=timing,
        )
        with self._front.locked() as coordinator:
            coordinator.set_metrics(self._metrics.newest)
            evaluations = self._plan.collect(coordinator)
        self._take(evaluations)

    def _take(self, evaluations: list[Evaluation]) -> None:
        for evaluation in evaluations:
            if evaluation.final:
                self._final = evaluation
            self._metrics.evaluation(evaluation)

    def _evaluate_final(self) -> None:
        """Waits for the evaluations that are outstanding, the final one last, then says FINISH."""
        if self._steps < self._config.total_steps:  # an observer had enough: no round asked for it
            with self._front.locked() as coordinator:
                self._plan.start_final(coordinator, self._front.now(), self._steps)
        while self._plan.is_running:
            self._take(
                self._front.wait(lambda coordinator: self._plan.collect(coordinator) or None)
            )
        with self._front.locked() as coordinator:
            coordinator.set_metrics(self._metrics.newest)
            coordinator.finish(f"{self._steps} of {self._config.total_steps} steps done")

    def _checkpoint_if_due(self) -> None:
        if time.perf_counter() - self._last_checkpoint >= self._config.checkpoint_seconds:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Saves training state and policy; a disk that refuses must not end the training."""
        self._last_checkpoint = time.perf_counter()
        algorithm, publication = self._algorithm, self._publication
        if algorithm is None or publication is None:
            return
        with self._front.locked() as coordinator:
            sequences = coordinator.sequences
        values = {
            "algorithm": algorithm.values(),
            "environment_steps": self._steps,
            "version": publication.version,
            "sequences": sequences,
            "episodes": self._metrics.episodes.values(),
        }
        policy = policy_file.SavedPolicy(
            self._job.algorithm.name,
            publication.version,
            self._steps,
            self._config.evaluation_environment(),
            algorithm.spec,
            algorithm.signature,
            _as_lists(algorithm.scalars(self._steps)),
            publication.model,
        )
        try:
            self._checkpoints.save(algorithm.tensors(), values)
            policy_file.save(self._job.folder, policy)
        except OSError as error:
            _log.error("checkpoint_not_written", reason=str(error))
        else:
            self._observers.checkpointed(self._steps)

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
            files.replace(self._job.folder.result, files.json_bytes(outcome.to_json()))
        finally:
            if finished:
                self._wait_for_farewells()
        return outcome

    def _announced(self, outcome: Outcome) -> Outcome:
        """The outcome, once observers were told; one that fails over it fails the run."""
        try:
            self._observers.ended(outcome)
        except CallbackError as failure:
            error = outcome.error or str(failure)
            return dataclasses.replace(outcome, status=Status.FAILED, error=error)
        return outcome

    def _outcome(self, status: Status, error: str | None) -> Outcome:
        with self._front.locked() as coordinator:
            losses = coordinator.ledger.losses()
        return Outcome(
            status=status,
            folder=self._job.folder.path,
            environment_steps=self._steps,
            version=self._publication.version if self._publication else 0,
            seconds=time.perf_counter() - self._started,
            first_update_seconds=self._first_update,
            final=self._final,
            metrics=self._metrics.newest,
            losses={reason.value: dataclasses.asdict(loss) for reason, loss in losses.items()},
            error=error,
            stop_reason=self._observers.stop_reason,
        )

    def _wait_for_farewells(self) -> None:
        with contextlib.suppress(DrainingError):
            self._front.wait(lambda c: c.all_informed(self._front.now()) or None)


def _slots(coordinator: Coordinator) -> int | None:
    """The slots of all samplers, for a round over all; None until those expected are there."""
    expected = coordinator.settings.expect_samplers or 1
    return coordinator.slots if coordinator.samplers >= expected else None


def device_of(name: str) -> torch.device:
    """The device of a setting: `cpu`, `cuda`, `cuda:N`, or `auto` for CUDA where there is any.

    Raises:
        InvalidFieldError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidFieldError(
            "device", f"{name!r} is none; use auto, cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidFieldError(
            "device", f"{name} is not there: torch sees no CUDA device; use cpu"
        )
    return device


def _as_lists(scalars: dict[str, float | list[float]]) -> dict[str, list[float]]:
    return {key: value if isinstance(value, list) else [value] for key, value in scalars.items()}
