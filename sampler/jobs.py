"""A worker's jobs: what the reader thread puts in line, and the main thread takes from it."""

from __future__ import annotations

import collections
import dataclasses
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from protos.wiserl.v1 import learner_pb2
    from sampler.acting import Scalars
    from sampler.policy import Policy


class Name(NamedTuple):
    """A task's id, and the registration that it belongs to."""

    epoch: int
    task_id: int

    def header(self, kind: str, rows_rolled: int, **values: object) -> dict[str, object]:
        """What a report about it begins with."""
        return {"kind": kind, **self._asdict(), "rows_rolled": rows_rolled, **values}


@dataclasses.dataclass(frozen=True)
class Configure:
    """Take over a registration; `incarnations` are those of the worker's slots."""

    epoch: int
    registration: learner_pb2.RegisterResponse
    incarnations: list[int]


@dataclasses.dataclass(frozen=True)
class Acting:
    """What rolling takes of a registration: the policy, None before the first, and the scalars."""

    epoch: int
    policy: Policy | None
    scalars: Scalars


@dataclasses.dataclass(frozen=True)
class Roll:
    """Roll a fragment of `rows` rows in each of these slots.

    Attributes:
        name: The task's.
        slots: Of this worker, ascending, counted over all workers.
        rows: T.
        acting: What was there to act with when the task came.
        newest: Whether to act with what is there when it begins.
    """

    name: Name
    slots: list[int]
    rows: int
    acting: Acting
    newest: bool


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Play one greedy episode from each of these seeds."""

    name: Name
    seeds: list[int]
    policy: Policy
    scalars: Scalars


@dataclasses.dataclass(frozen=True)
class Stop:
    """Close the environments and end."""


Job = Configure | Roll | Stop


class Jobs:
    """What the main thread has to do: a line of jobs in order, and evaluations beside it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: collections.deque[Job] = collections.deque()
        self._evaluations: collections.deque[Evaluate] = collections.deque()
        self._cancelled: set[Name] = set()

    def put(self, job: Job | Evaluate) -> None:
        """Appends a job; a new configuration drops all before it."""
        with self._changed:
            if isinstance(job, Configure):
                self._line.clear()
                self._evaluations.clear()
                self._cancelled.clear()
            if isinstance(job, Evaluate):
                self._evaluations.append(job)
            else:
                self._line.append(job)
            self._changed.notify()

    def cancel(self, names: set[Name]) -> set[Name]:
        """Takes out what has not started, and answers it; of the rest `is_cancelled` tells."""
        with self._changed:
            jobs = [*self._line, *self._evaluations]
            waiting = {job.name for job in jobs if isinstance(job, Roll | Evaluate)}
            self._line = collections.deque(
                job for job in self._line if not (isinstance(job, Roll) and job.name in names)
            )
            self._evaluations = collections.deque(
                job for job in self._evaluations if job.name not in names
            )
            self._cancelled |= names - waiting
            return names & waiting

    def is_cancelled(self, name: Name) -> bool:
        """Whether a task that has started is not wanted any more."""
        return name in self._cancelled

    def next(self) -> Job | None:
        """The next job of the line, None where there is none."""
        with self._changed:
            return self._line.popleft() if self._line else None

    def next_evaluation(self) -> Evaluate | None:
        """The next evaluation, None where there is none."""
        with self._changed:
            return self._evaluations.popleft() if self._evaluations else None

    def wait(self) -> None:
        """Waits for either."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._line or self._evaluations))
