"""What the front is told about its run and its limits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from protos.wiserl.v1 import environment_pb2

PROTOCOL_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a sampler may ask for; all but the last two are advertised in `GetRun`.

    Attributes:
        max_message_bytes: Of one request or response, fixed when the server starts.
        wait_milliseconds: The longest a pull waits for news. Two seconds are rare enough to cost
            nothing and often enough to renew the lease in time.
        lease_milliseconds: How long a sampler may be silent or stand still with work. Three waits,
            so that one lost pull ends no lease.
        push_deadline_milliseconds: The deadline that samplers give their other calls.
        max_slots: Of one sampler.
        push_budget_bytes: For the pushes of all samplers together; each sets its share aside when
            it registers.
        bytes_per_second: That one sampler may push and report in the long run (see `ByteQuota`);
            None for as many as it can.
    """

    max_message_bytes: int = 64 << 20
    wait_milliseconds: int = 2_000
    lease_milliseconds: int = 6_000
    push_deadline_milliseconds: int = 30_000
    max_slots: int = 4_096
    push_budget_bytes: int = 1 << 30
    bytes_per_second: int | None = None

    def __post_init__(self) -> None:
        """Refuses limits with which no sampler could keep its lease.

        Raises:
            InvalidFieldError: A limit below 1, or a wait that is not shorter than the lease.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise InvalidFieldError(field.name, f"{value} is below 1")
        if self.wait_milliseconds >= self.lease_milliseconds:
            raise InvalidFieldError(
                "wait_milliseconds",
                f"{self.wait_milliseconds} is not below lease_milliseconds "
                f"({self.lease_milliseconds}); a waiting pull would outlive its lease",
            )

    def wait_of(self, milliseconds: int) -> float:
        """How long a pull that asks to wait for so many milliseconds waits, in seconds."""
        return min(milliseconds, self.wait_milliseconds) / 1000

    @property
    def lease_seconds(self) -> float:
        """The lease."""
        return self.lease_milliseconds / 1000

    @property
    def hold_seconds(self) -> float:
        """How long a push is held until there is room: well within its deadline.

        A third, so that an answer comes also where the call took long to arrive.
        """
        return self.push_deadline_milliseconds / 3000

    @property
    def longest_push_seconds(self) -> float:
        """How long a push that is under way keeps a sampler from being taken for stalled.

        Four deadlines: samplers on a slow network lengthen theirs.
        """
        return self.push_deadline_milliseconds / 250

    def to_proto(self) -> learner_pb2.RunLimits:
        """The limits as `GetRun` advertises them."""
        return learner_pb2.RunLimits(
            max_message_bytes=self.max_message_bytes,
            wait_milliseconds=self.wait_milliseconds,
            lease_milliseconds=self.lease_milliseconds,
            push_deadline_milliseconds=self.push_deadline_milliseconds,
            max_slots=self.max_slots,
        )


@dataclasses.dataclass(frozen=True)
class FrontSettings:
    """The settings of a run that the front needs.

    Attributes:
        total_steps: The budget: valid environment steps in all.
        seed: From which every slot's seed follows.
        expect_samplers: How many samplers the first round waits for; None for whoever is there.
        limits: See `Limits`.
    """

    total_steps: int
    seed: int = 0
    expect_samplers: int | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuses a budget or a number of samplers below 1.

        Raises:
            InvalidFieldError: What is said above, or a seed that is no uint64.
        """
        if self.total_steps < 1:
            raise InvalidFieldError("total_steps", f"{self.total_steps} is below 1")
        if self.expect_samplers is not None and self.expect_samplers < 1:
            raise InvalidFieldError(
                "expect_samplers",
                f"{self.expect_samplers} is below 1; leave it out to wait for none",
            )
        if not 0 <= self.seed < 1 << 64:
            raise InvalidFieldError("seed", f"{self.seed} is not in [0, 2^64)")


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """What `GetRun` tells of the run.

    Attributes:
        run_id: Names the run; it survives a restart that resumes it.
        algorithm: For people, such as `ppo`.
        training_environment: Which environment to collect in.
        evaluation_environment: Which environment to evaluate in.
    """

    run_id: str
    algorithm: str
    training_environment: environment_pb2.EnvironmentReference
    evaluation_environment: environment_pb2.EnvironmentReference

    def to_proto(self, limits: Limits) -> learner_pb2.GetRunResponse:
        """The answer to `GetRun`."""
        return learner_pb2.GetRunResponse(
            run_id=self.run_id,
            protocol_version=PROTOCOL_VERSION,
            algorithm=self.algorithm,
            training_environment=self.training_environment,
            evaluation_environment=self.evaluation_environment,
            limits=limits.to_proto(),
        )
