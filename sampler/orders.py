"""What a pool has been told: registration, policies, scalars. Shared by every kind of pool."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from common import signature as signatures
from common.errors import InvalidFieldError
from sampler import acting, graphs
from sampler.pool import EvaluateTask, PoolError, RollTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from common.signature import Signature
    from common.specs import EnvironmentSpec
    from protos.wiserl.v1 import learner_pb2
    from sampler.pool import PoolConfig, Task


@dataclasses.dataclass(frozen=True)
class _Model:
    version: int
    graph: Message


class Orders:
    """The state that a worker needs to begin, and to begin again after its predecessor was lost.

    Args:
        config: The pool's.

    Attributes:
        registration: The newest one, None before the first.
        incarnations: Of each slot.
        scalars: The exploration values, by key.
    """

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self.registration: learner_pb2.RegisterResponse | None = None
        self.incarnations: list[int] = []
        self.scalars: dict[str, list[float]] = {}
        self._signature: Signature | None = None
        self._policy: _Model | None = None
        self._evaluation: _Model | None = None

    @property
    def signature(self) -> Signature:
        """The registration's.

        Raises:
            ValueError: There is none yet.
        """
        if self._signature is None:
            raise ValueError("the pool is not configured; call configure first")
        return self._signature

    def configure(self, registration: learner_pb2.RegisterResponse, spec: EnvironmentSpec) -> None:
        """Takes a registration; policies and scalars of an earlier one are forgotten.

        Raises:
            PoolError: Its signature cannot be one, or does not fit the environment.
        """
        try:
            signature = signatures.from_proto(registration.signature)
        except InvalidFieldError as error:
            raise PoolError(f"the learner's signature: {error}") from error
        acting.check(signature, spec)
        self.registration, self._signature = registration, signature
        slots = self._config.workers * self._config.envs_per_worker
        self.incarnations = [registration.incarnation_base] * slots
        self.scalars = {}
        self._policy = self._evaluation = None

    def renew(self, worker: int) -> None:
        """Gives the slots of a worker that is built anew their next incarnations."""
        if self.registration is not None:
            for slot in self._config.slots_of(worker):
                self.incarnations[slot] += 1

    def incarnations_of(self, worker: int) -> list[int]:
        """Those of a worker's slots."""
        return [self.incarnations[slot] for slot in self._config.slots_of(worker)]

    def set_scalars(self, scalars: Sequence[learner_pb2.Scalar]) -> None:
        """Replaces the exploration values."""
        self.scalars = {scalar.key: list(scalar.values) for scalar in scalars}

    def set_policy(self, version: int, model: bytes) -> bytes:
        """Takes the model to roll with; answers what of it rolling needs.

        Raises:
            PoolError: The model has what no policy may have, or lacks an output.
        """
        self._policy = _Model(version, _parsed(model))
        return self._restricted(self._policy, greedy=False)

    def set_evaluation_policy(self, version: int, model: bytes) -> bytes:
        """Takes a model to evaluate; answers what of it an evaluation needs.

        Raises:
            PoolError: As for `set_policy`.
        """
        self._evaluation = _Model(version, _parsed(model))
        return self._restricted(self._evaluation, greedy=True)

    def greedy_model(self, version: int) -> bytes:
        """What an evaluation needs of the model that is known under a version.

        Raises:
            ValueError: None is.
        """
        for model in (self._evaluation, self._policy):
            if model is not None and model.version == version:
                return self._restricted(model, greedy=True)
        raise ValueError(f"no model of version {version}; call set_evaluation_policy first")

    def check(self, worker: int, task: Task) -> None:
        """Refuses a task that cannot be done.

        Raises:
            ValueError: Not configured, no policy (of that version), or slots of another worker.
        """
        own = self._config.slots_of(worker)
        match task:
            case RollTask(slots=slots, rows=rows):
                if self._signature is None or self._policy is None:
                    raise ValueError("a pool rolls after configure and set_policy")
                if rows <= 0 or not slots or sorted(set(slots)) != list(slots):
                    raise ValueError(
                        f"{rows} rows of slots {slots}: take ascending slots, 1 row up"
                    )
                if not set(own).issuperset(slots):
                    raise ValueError(
                        f"slots {slots} are not all of worker {worker}, which has {own}"
                    )
            case EvaluateTask(seeds=seeds):
                if self._signature is None or not seeds:
                    raise ValueError("a pool evaluates after configure, at least one seed")

    def _restricted(self, model: _Model, *, greedy: bool) -> bytes:
        needed = acting.outputs_for(self.signature, greedy=greedy)
        try:
            return graphs.restricted(model.graph, [output.name for output in needed])
        except graphs.ModelRefusedError as error:
            raise PoolError(str(error)) from error


def _parsed(model: bytes) -> Message:
    try:
        return graphs.parse(model)
    except graphs.ModelRefusedError as error:
        raise PoolError(str(error)) from error
