"""The pool as the rest of the sampler sees it: what can be asked of it and what it answers.

A pool holds W workers of K slots each. The slots of a sampler are numbered from 0; slot s lives in
worker s % W, so that the lowest slots, which rounds use first, are spread over the workers.
`sampler.process_pool` runs the workers as processes, `sampler.inline_pool` in the caller's own.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from common.errors import WiseRLError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from common.specs import EnvironmentSpec
    from protos.wiserl.v1 import environment_pb2, learner_pb2, trajectory_pb2

Vectorization: TypeAlias = Literal["auto", "plain", "native"]


class PoolError(WiseRLError):
    """The pool cannot start or do what was asked; the text holds an environment's traceback."""


@dataclasses.dataclass(frozen=True)
class PoolConfig:
    """What a pool is made of.

    Attributes:
        environment: The training environment.
        evaluation_environment: The one for evaluations; always built plain.
        workers: W, the number of workers.
        envs_per_worker: K, the number of slots of each.
        vectorization: `auto` takes the environment's own vectorisation where it has one that pays.
        step_timeout_seconds: A step or reset that takes longer means that the worker hangs.
        allowed_modules: Modules (with their submodules) that an id with a colon may name.
    """

    environment: environment_pb2.EnvironmentReference
    evaluation_environment: environment_pb2.EnvironmentReference
    workers: int = 1
    envs_per_worker: int = 8
    vectorization: Vectorization = "auto"
    step_timeout_seconds: float = 60.0
    allowed_modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses a pool without environments.

        Raises:
            ValueError: Fewer than one worker or slot, or a timeout that is not positive.
        """
        for name in ("workers", "envs_per_worker", "step_timeout_seconds"):
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} ({value}) must be positive")

    def slots_of(self, worker: int) -> tuple[int, ...]:
        """The numbers of a worker's slots, ascending."""
        return tuple(range(worker, self.workers * self.envs_per_worker, self.workers))


@dataclasses.dataclass(frozen=True)
class RollTask:
    """Roll `rows` rows in each of `slots` (of one worker, ascending).

    Attributes:
        task_id: Never used before.
        slots: Their numbers.
        rows: T.
        newest: With the policy and the exploration values that are newest when the task starts;
            else with those at hand when it is submitted.
    """

    task_id: int
    slots: tuple[int, ...]
    rows: int
    newest: bool = False


@dataclasses.dataclass(frozen=True)
class EvaluateTask:
    """Play one greedy episode for each seed with the policy of `version`."""

    task_id: int
    version: int
    seeds: tuple[int, ...]


Task: TypeAlias = RollTask | EvaluateTask


@dataclasses.dataclass(frozen=True)
class SegmentRolled:
    """A roll task is done; the batch is complete, its episodes included."""

    worker: int
    task_id: int
    batch: trajectory_pb2.TrajectoryBatch


@dataclasses.dataclass(frozen=True)
class EpisodesEvaluated:
    """An evaluation task is done; one episode for each seed, in the task's order."""

    worker: int
    task_id: int
    version: int
    episodes: tuple[learner_pb2.EvaluatedEpisode, ...]


@dataclasses.dataclass(frozen=True)
class WorkerLost:
    """A worker crashed or hung; its replacement is being started and takes tasks at once.

    Attributes:
        worker: Its number, which the replacement has too.
        reason: What happened, with the environment's traceback where there is one.
        rows_dropped: Rows it had rolled and not handed in.
        tasks: Its outstanding tasks, in the order of their submission; they are gone.
    """

    worker: int
    reason: str
    rows_dropped: int
    tasks: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class PoolFailed:
    """The pool has given up and takes no more tasks."""

    reason: str


PoolEvent: TypeAlias = SegmentRolled | EpisodesEvaluated | WorkerLost | PoolFailed


class Pool(Protocol):
    """Environments, a policy to act with, and workers that roll whole segments for themselves."""

    spec: EnvironmentSpec
    workers: int
    slots: int
    slots_per_worker: int

    def configure(self, registration: learner_pb2.RegisterResponse) -> None:
        """Takes signature, index, seed and incarnations, drops all tasks and resets every slot.

        Raises:
            PoolError: The signature does not fit the environment.
        """

    def set_policy(
        self, version: int, model: bytes, golden: learner_pb2.GoldenVector | None
    ) -> None:
        """Makes a model the one that tasks submitted from now on are rolled with.

        So are those submitted before that ask for the newest and have not started.

        Raises:
            PoolError: The model has what no policy may have. A model that does not answer `golden`
                as it should, or cannot be run, is a `PoolFailed`.
        """

    def set_scalars(self, scalars: Sequence[learner_pb2.Scalar]) -> None:
        """Replaces the exploration values, for the tasks that `set_policy` speaks of."""

    def set_evaluation_policy(self, version: int, model: bytes) -> None:
        """Brings a model that evaluation tasks may name beside the one of `set_policy`.

        Raises:
            PoolError: As for `set_policy`.
        """

    def submit(self, worker: int, task: Task) -> None:
        """Queues a task; the tasks of a worker start in order, evaluations beside the rolling.

        Raises:
            ValueError: Not configured, no policy (of that version), or slots of another worker.
        """

    def cancel(self, task_ids: Collection[int]) -> None:
        """Forgets tasks: what has not started never does, of the rest the events are swallowed."""

    def events(self) -> list[PoolEvent]:
        """What happened since the last call; never waits."""

    def waitables(self) -> list[int]:
        """File descriptors that turn readable when `events` has something."""

    def next_timeout(self) -> float | None:
        """In how many seconds `events` must be called even if nothing turns readable."""

    def progress(self) -> learner_pb2.SamplerProgress:
        """Totals since the pool was made; `pushes_refused` is the caller's."""

    def close(self) -> None:
        """Ends every worker; may be called more than once."""
