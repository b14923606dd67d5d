"""A run as it is watched from anywhere: what its learner tells, and rates made of it."""

from __future__ import annotations

import collections
import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import grpc

from common import statuses
from common.errors import Reason, WiseRLError
from common.statuses import Code
from protos.wiserl.v1 import learner_pb2
from wiserl import learner_at
from wiserl.learner_at import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.security import ClientSecurity

RATE_SECONDS = 10.0
"""Rates are means over so long."""

RETURN = "rollout/ep_rew_mean"

_MOST_POINTS = 16384
_CALL_SECONDS = 5.0
_RETRY_SECONDS = 0.5
_PASSING = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL})
_LEDGER = "ledger/"


class Rate:
    """Units a second, over the last `RATE_SECONDS`."""

    def __init__(self) -> None:
        self._seen: collections.deque[tuple[float, int]] = collections.deque()

    def see(self, now: float, total: int) -> None:
        """Takes a total that only grows; where it has fallen, counting begins anew."""
        if self._seen and total < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, total))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_SECONDS:
            self._seen.popleft()

    @property
    def value(self) -> float | None:
        """None until two totals were seen."""
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return (last - first) / (ended - began) if ended > began else None


class Watched:
    """What was heard of a run so far.

    Args:
        address: Its learner's.
        run: What run it is.

    Attributes:
        newest: The last response; None before the first.
        curve: All points `(environment steps, mean return)`.
        fresh: Those of them that the last response brought.
        silence: Why nothing is heard now; empty where something is.
    """

    def __init__(self, address: str, run: learner_pb2.GetRunResponse) -> None:
        self.address = address
        self.run = run
        self.newest: learner_pb2.WatchRunResponse | None = None
        self.curve: list[tuple[int, float]] = []
        self.fresh: list[tuple[int, float]] = []
        self.silence = ""
        self._rate = Rate()
        self._rates: dict[str, Rate] = {}

    def hear(self, now: float, response: learner_pb2.WatchRunResponse) -> None:
        """Takes a response, received at `now` in seconds of any clock."""
        self.newest = response
        self.silence = ""
        last = self.curve[-1][0] if self.curve else -1
        # A stream that is opened again begins with the whole curve.
        points = [(point.environment_steps, point.episode_return) for point in response.curve]
        self.fresh = [point for point in points if point[0] > last]
        self.curve += self.fresh
        if len(self.curve) > _MOST_POINTS:
            del self.curve[-2::-2]
        self._rate.see(now, response.environment_steps)
        there = {sampler.sampler_id for sampler in response.samplers}
        self._rates = {name: rate for name, rate in self._rates.items() if name in there}
        for sampler in response.samplers:
            rate = self._rates.setdefault(sampler.sampler_id, Rate())
            rate.see(now, sampler.environment_steps)

    @property
    def state(self) -> learner_pb2.WatchRunResponse:
        """The last response; an empty one before the first."""
        return self.newest or learner_pb2.WatchRunResponse()

    @property
    def phase(self) -> str:
        """Such as `training`."""
        return learner_pb2.RunPhase.Name(self.state.phase).removeprefix("RUN_PHASE_").lower()

    @property
    def steps_per_second(self) -> float | None:
        """Of all samplers; at first what the learner itself says, None where it says nothing."""
        measured = self._rate.value if self.newest is not None else None
        return self.state.metrics.get("time/fps") if measured is None else measured

    @property
    def time_left(self) -> str:
        """Such as `0:01:30`; empty where nobody can know."""
        rate, state = self.steps_per_second, self.state
        if not rate or self.phase != "training":
            return ""
        seconds = max(0.0, (state.total_steps - state.environment_steps) / rate)
        return str(dt.timedelta(seconds=round(seconds)))

    def rate_of(self, sampler: learner_pb2.SamplerStatus) -> float | None:
        """A sampler's accepted environment steps a second."""
        return self._rates[sampler.sampler_id].value

    def lag_of(self, sampler: learner_pb2.SamplerStatus) -> int:
        """How many versions a sampler's policy is behind the newest one."""
        return max(0, self.state.version - sampler.version)

    @property
    def losses(self) -> dict[str, str]:
        """What was pushed and not trained on, by reason, in words."""
        metrics = self.state.metrics
        reasons = [name.removeprefix(_LEDGER) for name in metrics if name.startswith(_LEDGER)]
        found = {}
        for reason in sorted(name.removesuffix("_pushes") for name in reasons if "_pushes" in name):
            pushes = metrics[f"{_LEDGER}{reason}_pushes"]
            rows = metrics.get(f"{_LEDGER}{reason}_rows", 0.0)
            counts = [(pushes, "pushes"), (rows, "rows")]
            found[reason.replace("_", " ")] = ", ".join(f"{n:,.0f} {w}" for n, w in counts if n)
        return {reason: said for reason, said in found.items() if said}


def follow(
    address: str,
    security: ClientSecurity = learner_at.PLAIN,
    *,
    interval_seconds: float,
    patience_seconds: float,
) -> Iterator[Watched]:
    """The run at an address, each time that something is heard of it, until it is over.

    A learner that goes silent is tried again, and one that comes back with another run is watched
    from its beginning; `Watched.silence` says so meanwhile.

    Args:
        address: HOST:PORT.
        security: How to talk to it.
        interval_seconds: How often to be told.
        patience_seconds: How long a learner may be silent, from the start on; 0 for ever.

    Raises:
        UnreachableError: It was silent for longer.
        WiseRLError: It refuses to be watched.
    """
    watched: Watched | None = None
    silent_since: float | None = None
    with learner_at.stub(address, security) as stub:
        while True:
            try:
                run = stub.GetRun(learner_pb2.GetRunRequest(), timeout=_CALL_SECONDS)
                if watched is None or watched.run.run_id != run.run_id:
                    watched = Watched(address, run)
                request = learner_pb2.WatchRunRequest(
                    run_id=run.run_id, interval_milliseconds=round(1000 * interval_seconds)
                )
                for response in stub.WatchRun(request):
                    silent_since = None
                    watched.hear(time.monotonic(), response)
                    yield watched
                return  # noqa: TRY300 - only a stream that is over ends without an error
            except grpc.RpcError as error:
                status = statuses.read(error)
            if status.reason == Reason.RUN_CHANGED:
                continue
            if status.code not in _PASSING:
                raise WiseRLError(f"the learner at {address} cannot be watched: {status}")
            silent_since = silent_since or time.monotonic()
            silence = time.monotonic() - silent_since
            if 0 < patience_seconds <= silence:
                raise UnreachableError(
                    f"no learner at {address} for {silence:.0f} s ({status}); check the address, "
                    f"`wiserl doctor {address}` looks closer"
                )
            if watched is not None:
                watched.silence = f"no answer for {silence:.0f} s, trying again: {status.message}"
                yield watched
            time.sleep(_RETRY_SECONDS)


def line(watched: Watched) -> str:
    """The state in a line, for a log."""
    state = watched.state
    parts = [watched.phase, f"{state.environment_steps:,}/{state.total_steps:,} steps"]
    if watched.steps_per_second is not None:
        parts.append(f"{watched.steps_per_second:,.0f} steps/s")
    if RETURN in state.metrics:
        parts.append(f"return {state.metrics[RETURN]:.1f}")
    parts += [f"policy {state.version}", _counted(len(state.samplers), "sampler")]
    if lag := max(map(watched.lag_of, state.samplers), default=0):
        parts.append(f"{lag} behind")
    if watched.time_left:
        parts.append(f"{watched.time_left} left")
    return " | ".join([*parts, watched.silence] if watched.silence else parts)


def as_json(watched: Watched, curve: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """The state as JSON has it, with these points of the curve."""
    state = watched.state
    return {
        "run_id": watched.run.run_id,
        "algorithm": watched.run.algorithm,
        "environment": watched.run.training_environment.id,
        "phase": watched.phase,
        "version": state.version,
        "environment_steps": state.environment_steps,
        "total_steps": state.total_steps,
        "steps_per_second": watched.steps_per_second,
        "metrics": dict(sorted(state.metrics.items())),
        "samplers": [_sampler(watched, sampler) for sampler in state.samplers],
        "curve": [list(point) for point in curve],
    }


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _sampler(watched: Watched, sampler: learner_pb2.SamplerStatus) -> dict[str, Any]:
    done = sampler.progress
    return {
        "index": sampler.index,
        "name": sampler.name,
        "sampler_id": sampler.sampler_id,
        "slots": sampler.slots,
        "version": sampler.version,
        "lag": watched.lag_of(sampler),
        "environment_steps": sampler.environment_steps,
        "steps_per_second": watched.rate_of(sampler),
        "seconds_since_pull": sampler.seconds_since_pull,
        "rows_rolled": done.rows_rolled,
        "rows_dropped": done.rows_dropped,
        "worker_restarts": done.worker_restarts,
        "pushes_refused": done.pushes_refused,
        "policy_seconds": done.policy_seconds,
        "environment_seconds": done.environment_seconds,
        "idle_seconds": done.idle_seconds,
    }
