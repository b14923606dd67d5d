"""What people and dashboards are told: metrics, the curve of returns, the samplers."""

from __future__ import annotations

import bisect
import collections
from typing import TYPE_CHECKING

from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from learner.front.session import Session
    from protos.wiserl.v1 import trajectory_pb2

MEAN_EPISODES = 100
"""A point of the curve is a mean of so many episodes, as `rollout/ep_rew_mean` is by custom."""

MAX_POINTS = 8192
"""Where a curve has more, every second point goes: memory and messages stay bounded."""


class Curve:
    """The curve of training returns over environment steps."""

    def __init__(self) -> None:
        self._returns: collections.deque[float] = collections.deque(maxlen=MEAN_EPISODES)
        self._points: list[learner_pb2.CurvePoint] = []

    def extend(self, environment_steps: int, episodes: Sequence[trajectory_pb2.Episode]) -> None:
        """Adds a point after `environment_steps`, where any episode has ended by then."""
        self._returns.extend(episode.episode_return for episode in episodes)
        if not self._returns:
            return
        mean = sum(self._returns) / len(self._returns)
        self._points.append(
            learner_pb2.CurvePoint(environment_steps=environment_steps, episode_return=mean)
        )
        if len(self._points) > MAX_POINTS:
            del self._points[-2::-2]

    def after(self, environment_steps: int) -> list[learner_pb2.CurvePoint]:
        """The points beyond so many steps; -1 for all."""
        start = bisect.bisect_right(
            self._points, environment_steps, key=lambda point: point.environment_steps
        )
        return self._points[start:]


def statuses(sessions: Iterable[Session], now: float) -> list[learner_pb2.SamplerStatus]:
    """The samplers by index."""
    return [
        learner_pb2.SamplerStatus(
            index=session.index,
            name=session.name,
            sampler_id=session.sampler_id,
            slots=session.slots,
            version=session.version,
            environment_steps=session.environment_steps,
            seconds_since_pull=now - session.pulled_at,
            progress=session.progress,
        )
        for session in sessions
    ]
