"""When a run evaluates its policy, and the results in the order of versions."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from learner.config import evaluation_seeds
from learner.metrics import Evaluation

if TYPE_CHECKING:
    from learner.config import RunConfig
    from learner.front.coordinator import Coordinator


@dataclasses.dataclass(frozen=True)
class _Started:
    evaluation_id: int
    version: int
    global_step: int
    final: bool


class EvaluationPlan:
    """Evaluations along the way at fixed step counts, and the final one.

    Which version is evaluated follows from the step counts alone, and results come out in the order
    of versions, so that a run's record does not depend on how fast samplers play.

    Args:
        config: The run's settings.
        after: The steps that the run had when its last process ended; -1 for a run that begins.
    """

    def __init__(self, config: RunConfig, *, after: int = -1) -> None:
        self._due = collections.deque(s for s in config.evaluation_steps() if s > after)
        self._episodes = config.eval_episodes
        self._final_episodes = config.final_eval_episodes
        self._running: collections.deque[_Started] = collections.deque()

    @property
    def is_running(self) -> bool:
        """Whether results are outstanding."""
        return bool(self._running)

    def start_due(self, coordinator: Coordinator, now: float, steps: int) -> None:
        """Starts an evaluation of the newest version, trained on `steps`, where one is due.

        Of several that are due at once (a round as long as the way between them) one is started.
        """
        due = False
        while self._due and self._due[0] <= steps:
            self._due.popleft()
            due = True
        if due:
            self._start(coordinator, now, steps, self._episodes, final=False)

    def start_final(self, coordinator: Coordinator, now: float, steps: int) -> None:
        """Starts the evaluation of the final policy, where the run has one."""
        if self._final_episodes:
            self._start(coordinator, now, steps, self._final_episodes, final=True)

    def collect(self, coordinator: Coordinator) -> list[Evaluation]:
        """The results that have come, up to the first version that lacks its own."""
        found = []
        while self._running:
            started = self._running[0]
            episodes = coordinator.finished_evaluation(started.evaluation_id)
            if episodes is None:
                break
            self._running.popleft()
            spec = coordinator.spec
            found.append(
                Evaluation.of(
                    started.version,
                    started.global_step,
                    episodes,
                    final=started.final,
                    agents=spec.agents if spec is not None else (),
                )
            )
        return found

    def _start(
        self, coordinator: Coordinator, now: float, steps: int, episodes: int, *, final: bool
    ) -> None:
        evaluation_id = coordinator.start_evaluation(now, evaluation_seeds(episodes))
        self._running.append(_Started(evaluation_id, coordinator.newest_version, steps, final))
