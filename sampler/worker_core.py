"""A worker without a process: its environments, its slots and what it does with a policy.

The worker process and the in-process pool both drive this, so both give the same data bit for bit.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from common import signature as signatures
from sampler.environments.building import build, specification
from sampler.environments.registry import resolve
from sampler.evaluation import Evaluation
from sampler.pool import PoolError
from sampler.rolling import Rolling
from sampler.seeding import SlotIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.signature import Signature
    from common.specs import EnvironmentSpec
    from protos.wiserl.v1 import learner_pb2
    from sampler.acting import Scalars
    from sampler.environments.registry import Environment
    from sampler.policy import Policy
    from sampler.pool import PoolConfig
    from sampler.segments import Contents, Segment, SegmentLayout
    from sampler.workload import Workload


class WorkerCore:
    """The environments of one worker.

    Args:
        config: The pool's.
        worker: The worker's number.
        workload: Gets what it does.

    Raises:
        EnvironmentRefusedError: The environment is none that this sampler builds.
        UnsupportedSpaceError: It has a space that the contract lacks.
        Exception: Whatever the environment raises.
    """

    def __init__(self, config: PoolConfig, worker: int, workload: Workload) -> None:
        self._config = config
        self._slots = config.slots_of(worker)
        self._workload = workload
        recipe = resolve(config.environment, config.allowed_modules)
        self._environments = build(recipe, len(self._slots), config.vectorization)
        self._evaluation_recipe = resolve(config.evaluation_environment, config.allowed_modules)
        self._evaluation_environments: list[Environment] = []
        self._signature: Signature | None = None
        self._rolling: Rolling | None = None
        self._seed = 0

    @property
    def spec(self) -> EnvironmentSpec:
        """What the environment is."""
        return self._environments.spec

    @property
    def with_finals(self) -> bool:
        """Whether episodes are replaced at once, which segments must have room for."""
        return not self._environments.late

    def configure(
        self, registration: learner_pb2.RegisterResponse, incarnations: Sequence[int]
    ) -> None:
        """Begins the slots' lives anew.

        Args:
            registration: Signature, index and seed.
            incarnations: Of each slot of this worker.

        Raises:
            PoolError: The signature does not fit the environment.
        """
        self._seed = registration.seed
        self._signature = signatures.from_proto(registration.signature)
        identities = [
            SlotIdentity(registration.seed, registration.index, slot, incarnation)
            for slot, incarnation in zip(self._slots, incarnations, strict=True)
        ]
        self._rolling = Rolling(self._environments, self._signature, identities, self._workload)

    def layout(self, rows: int, slots: int) -> SegmentLayout:
        """What a segment's buffer must hold."""
        return self._configured().layout(rows, slots)

    def roll(
        self, slots: Sequence[int], rows: int, policy: Policy, scalars: Scalars, segment: Segment
    ) -> Contents:
        """Rolls a segment; see `Rolling.roll`."""
        return self._configured().roll(slots, rows, policy, scalars, segment)

    def evaluation(self, seeds: Sequence[int], policy: Policy, scalars: Scalars) -> Evaluation:
        """Begins an evaluation; `policy` is restricted to greedy actions."""
        if self._signature is None:
            raise PoolError("an evaluation before the registration")
        copies = min(len(seeds), self._config.envs_per_worker)
        while len(self._evaluation_environments) < copies:
            self._evaluation_environments.append(self._evaluation_environment())
        return Evaluation(
            self._evaluation_environments,
            self.spec,
            self._signature,
            policy,
            scalars=scalars,
            run_seed=self._seed,
            seeds=seeds,
            workload=self._workload,
        )

    def close(self) -> None:
        """Closes every environment."""
        self._environments.close()
        for environment in self._evaluation_environments:
            environment.close()

    def _evaluation_environment(self) -> Environment:
        environment = self._evaluation_recipe.plain()
        if not self._evaluation_environments:
            # Its step limit and global state may be others: the policy does not see them.
            found = dataclasses.replace(
                specification(environment),
                max_episode_steps=self.spec.max_episode_steps,
                global_state=self.spec.global_state,
            )
            if different := self.spec.differences(found):
                raise PoolError(
                    f"{self._evaluation_recipe.name}, to evaluate in, is not as the training "
                    f"environment: {'; '.join(different)}"
                )
        self._workload.beat()
        return environment

    def _configured(self) -> Rolling:
        if self._rolling is None:
            raise PoolError("a task before the registration")
        return self._rolling
