"""Ends a run that is as good as it was asked to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.observer import Observer, StopTraining
from learner.statistics import WINDOW

if TYPE_CHECKING:
    from collections.abc import Mapping


class StopAtReturn(Observer):
    """Stops when the mean return of the last training episodes reaches a number.

    Args:
        wanted: The return; None never stops.
    """

    def __init__(self, wanted: float | None) -> None:
        self._wanted = wanted

    def trained(self, environment_steps: int, version: int, metrics: Mapping[str, float]) -> None:
        """Counts once there are as many episodes as the mean is over.

        Raises:
            StopTraining: The return is reached.
        """
        del environment_steps, version
        mean = metrics.get("rollout/ep_rew_mean")
        if self._wanted is None or mean is None or metrics["rollout/episodes"] < WINDOW:
            return
        if mean >= self._wanted:
            raise StopTraining(
                f"the mean return of the last {WINDOW} episodes is {mean:g}, and "
                f"stop_at_return is {self._wanted:g}"
            )
