"""A pool in the caller's own process, for a debugger: the data of the process pool, bit for bit.

An exception of an environment is raised where it happens, with its own traceback; a crash is a
crash.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

import numpy as np

from protos.wiserl.v1 import learner_pb2
from sampler import policy as policies
from sampler.orders import Orders
from sampler.pool import EpisodesEvaluated, EvaluateTask, PoolError, RollTask, SegmentRolled
from sampler.segments import to_batch
from sampler.worker_core import WorkerCore
from sampler.workload import SIZE_BYTES, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from common.specs import EnvironmentSpec
    from sampler.acting import Scalars
    from sampler.policy import Policy
    from sampler.pool import PoolConfig, PoolEvent, Task


class InlinePool:
    """W workers that take turns in the caller's thread: each call of `events` does one task.

    Args:
        config: What it is made of; the step timeout has no meaning here.

    Raises:
        WiseRLError: The environment is none that this sampler builds.
        Exception: Whatever the environment raises.
    """

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._orders = Orders(config)
        self._workloads = [Workload(bytearray(SIZE_BYTES)) for _ in range(config.workers)]
        self._cores = [
            WorkerCore(config, worker, workload) for worker, workload in enumerate(self._workloads)
        ]
        self.spec: EnvironmentSpec = self._cores[0].spec
        self.workers = config.workers
        self.slots_per_worker = config.envs_per_worker
        self.slots = config.workers * config.envs_per_worker
        self._policy: Policy | None = None
        self._scalars: Scalars = {}
        self._pending: collections.deque[tuple[int, Callable[[], PoolEvent]]] = collections.deque()
        self._rows_used = 0

    def configure(self, registration: learner_pb2.RegisterResponse) -> None:
        """See `Pool.configure`."""
        self._orders.configure(registration, self.spec)
        self._pending.clear()
        self._policy, self._scalars = None, {}
        for worker, core in enumerate(self._cores):
            core.configure(registration, self._orders.incarnations_of(worker))

    def set_policy(
        self, version: int, model: bytes, golden: learner_pb2.GoldenVector | None
    ) -> None:
        """See `Pool.set_policy`; a model that fails its golden vector is a `PoolError` here."""
        restricted = self._orders.set_policy(version, model)
        if golden is not None:
            policies.verify(model, golden)
        self._policy = policies.Policy(version, restricted)

    def set_scalars(self, scalars: Sequence[learner_pb2.Scalar]) -> None:
        """See `Pool.set_scalars`."""
        self._orders.set_scalars(scalars)
        self._scalars = {
            key: np.array(values, np.float32) for key, values in self._orders.scalars.items()
        }

    def set_evaluation_policy(self, version: int, model: bytes) -> None:
        """See `Pool.set_evaluation_policy`."""
        self._orders.set_evaluation_policy(version, model)

    def submit(self, worker: int, task: Task) -> None:
        """See `Pool.submit`."""
        self._orders.check(worker, task)
        # As between processes: what is at hand now is what the task is done with.
        policy, scalars = self._policy, self._scalars
        if isinstance(task, EvaluateTask):
            greedy = policies.Policy(task.version, self._orders.greedy_model(task.version))
            self._pending.append(
                (task.task_id, lambda: self._evaluate(worker, task, greedy, scalars))
            )
        elif task.newest:
            self._pending.append(
                (task.task_id, lambda: self._roll(worker, task, self._policy, self._scalars))
            )
        else:
            self._pending.append((task.task_id, lambda: self._roll(worker, task, policy, scalars)))

    def cancel(self, task_ids: Collection[int]) -> None:
        """See `Pool.cancel`."""
        kept = [entry for entry in self._pending if entry[0] not in task_ids]
        self._pending = collections.deque(kept)

    def events(self) -> list[PoolEvent]:
        """Does one pending task, the oldest, from beginning to end."""
        if not self._pending:
            return []
        _, perform = self._pending.popleft()
        return [perform()]

    def waitables(self) -> list[int]:
        """None: nothing happens between calls."""
        return []

    def next_timeout(self) -> float | None:
        """At once while a task is pending."""
        return 0.0 if self._pending else None

    def progress(self) -> learner_pb2.SamplerProgress:
        """See `Pool.progress`."""
        rows = sum(workload.rows for workload in self._workloads)
        policy, environment, idle = np.sum([one.seconds for one in self._workloads], axis=0)
        return learner_pb2.SamplerProgress(
            rows_rolled=rows,
            rows_dropped=rows - self._rows_used,
            policy_seconds=policy,
            environment_seconds=environment,
            idle_seconds=idle,
        )

    def close(self) -> None:
        """Closes the environments."""
        self._pending.clear()
        for core in self._cores:
            core.close()
        self._cores = []

    def _roll(
        self, worker: int, task: RollTask, policy: Policy | None, scalars: Scalars
    ) -> SegmentRolled:
        if policy is None:
            raise PoolError("a roll task before the first policy")
        core = self._cores[worker]
        layout = core.layout(task.rows, len(task.slots))
        segment = layout.views(bytearray(layout.size_bytes))
        contents = core.roll(task.slots, task.rows, policy, scalars, segment)
        self._rows_used += task.rows * len(task.slots)
        return SegmentRolled(worker, task.task_id, to_batch(segment, contents))

    def _evaluate(
        self, worker: int, task: EvaluateTask, policy: Policy, scalars: Scalars
    ) -> EpisodesEvaluated:
        evaluation = self._cores[worker].evaluation(task.seeds, policy, scalars)
        while not evaluation.finished:
            evaluation.advance()
        self._rows_used += evaluation.rows
        return EpisodesEvaluated(worker, task.task_id, task.version, tuple(evaluation.episodes))
