"""Synchronous training: a round of the newest policy, an update, the next policy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from learner.experience.on_policy import VALID
from learner.statistics import finished_episodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from learner.experience.on_policy import OnPolicyBatch
    from learner.front.coordinator import Coordinator
    from learner.publishing.publication import Publication
    from learner.training.run import Run


def train_in_rounds(
    run: Run,
    learn: Callable[[OnPolicyBatch, float], dict[str, float]],
    *,
    n_envs: int | None,
    n_steps: int,
) -> None:
    """Trains on one round after the other until the step budget is met.

    Args:
        run: What is trained, built.
        learn: Trains on a round at this share of the step budget, and returns metrics by name.
        n_envs: Fragments in a round; None takes every slot connected when the round opens.
        n_steps: Rows of a fragment.

    Raises:
        DrainingError: The front drains.
        CallbackError: An observer failed.
    """

    def offer(publication: Publication) -> None:
        """Publishes a version and opens its round under one lock: one answer brings both."""
        fragments = n_envs or run.front.wait(slots_there)
        with run.offering(publication) as coordinator:
            if not run.is_over:
                now = run.front.now()
                coordinator.open_round(now, n_envs=fragments, n_steps=n_steps)

    offer(run.open(fragment_rows=n_steps))
    run.observers.began(run.version)
    while run.goes_on:
        waiting = time.perf_counter()
        batch = run.front.wait(lambda coordinator: coordinator.closed_round())
        updating = time.perf_counter()
        reported = learn(batch, run.progress)
        publishing = time.perf_counter()
        episodes = finished_episodes(batch, run.steps, run.agents)
        run.take(batch.steps, rows=batch.columns[VALID].size)
        offer(run.publish())
        offered = time.perf_counter()
        timing = {
            "time/wait_seconds": updating - waiting,
            "time/update_seconds": publishing - updating,
            "time/publish_seconds": offered - publishing,
        }
        # Written down while samplers roll the next round.
        run.record(episodes, reported, timing)


def slots_there(coordinator: Coordinator) -> int | None:
    """The slots of all samplers, to train over all; None until those expected are there."""
    expected = coordinator.settings.expect_samplers or 1
    return coordinator.slots if coordinator.samplers >= expected else None
