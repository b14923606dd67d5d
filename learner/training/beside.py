"""Training beside samplers that never wait for a round: how often to publish and to record."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, TypeVar

from learner.statistics import finished

if TYPE_CHECKING:
    from collections.abc import Callable

    from learner.front.coordinator import Coordinator
    from learner.training.run import Run

T = TypeVar("T")

PUBLISH_SECONDS = 0.1
"""Between two policies: more often nobody would notice, and samplers would rather roll."""

RECORDS = 500
"""Rows of metrics.csv that the step budget is divided into."""


class Beside:
    """What the loops have in common.

    Args:
        run: What is trained.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waited = 0.0
        self._published_at = -math.inf
        self._stride = max(1, run.config.total_steps // RECORDS)
        self._next_record = run.steps + self._stride

    def wait(self, ready: Callable[[Coordinator], T | None]) -> T:
        """See `Front.wait`; the time that it takes is recorded as `time/wait_seconds`.

        Raises:
            DrainingError: The front drains.
        """
        begun = time.perf_counter()
        found = self._run.front.wait(ready)
        self._waited += time.perf_counter() - begun
        return found

    def may_publish(self) -> bool:
        """Whether the last policy is old enough for another; if so, it is counted from now."""
        now = time.perf_counter()
        if now - self._published_at < PUBLISH_SECONDS:
            return False
        self._published_at = now
        return True

    @property
    def has_moved(self) -> bool:
        """Whether there were environment steps since the last row of metrics.csv."""
        return self._run.steps > self._next_record - self._stride

    def is_record_due(self, environment_steps: int) -> bool:
        """Whether a row of metrics.csv is due at this many steps."""
        return environment_steps >= self._next_record

    def record(self, training: dict[str, float], timing: dict[str, float]) -> None:
        """Writes down how far training is, with what came from the samplers meanwhile.

        Args:
            training: What updates reported.
            timing: What depends on the machine, by names that begin with `time/`.

        Raises:
            CallbackError: An observer failed.
        """
        run = self._run
        self._next_record = run.steps + self._stride
        with run.front.locked() as coordinator:
            run.take(coordinator.environment_steps - run.steps)
            ended = coordinator.take_ended()
            found = coordinator.flow_metrics() | coordinator.take_lags()
        timing = {"time/wait_seconds": self._waited, **timing}
        self._waited = 0.0
        episodes = [finished(episode, steps, run.agents) for steps, episode in ended]
        run.record(episodes, training | found, timing)
