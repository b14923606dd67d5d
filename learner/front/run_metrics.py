"""The state of a run as Prometheus reads it: made of what `WatchRun` tells people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from learner.front.sharing import SharedCoordinator

_LABELS = ("index", "sampler")
_REQUEST = learner_pb2.WatchRunRequest()
_PHASES = learner_pb2.RunPhase.DESCRIPTOR.values_by_name
_NO_CURVE = 1 << 62


class RunCollector(Collector):
    """The run that a coordinator holds, read at each scrape.

    Metrics of `metrics.csv` bear their names there with `wiserl_` before it and `_` for `/`:
    `rollout/ep_rew_mean` is `wiserl_rollout_ep_rew_mean`.

    Args:
        shared: The coordinator.
    """

    def __init__(self, shared: SharedCoordinator) -> None:
        self._shared = shared

    def describe(self) -> list[Metric]:
        """None: which metrics there are shows when there are any."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        with self._shared.locked() as coordinator:
            run = coordinator.identity
            state = coordinator.watch(self._shared.now(), _REQUEST, after=_NO_CURVE)
        info = InfoMetricFamily("wiserl_run", "What run this is.")
        info.add_metric(
            [],
            {
                "run_id": run.run_id,
                "algorithm": run.algorithm,
                "environment": run.training_environment.id,
            },
        )
        yield info
        yield _phases(state)
        yield CounterMetricFamily(
            "wiserl_environment_steps", "Valid steps of the budget.", state.environment_steps
        )
        yield _gauge("wiserl_budget_steps", "The budget of environment steps.", state.total_steps)
        yield _gauge("wiserl_policy_version", "The newest published version.", state.version)
        yield _gauge("wiserl_samplers", "Samplers that are there.", len(state.samplers))
        for name, value in sorted(state.metrics.items()):
            yield _gauge(f"wiserl_{_as_name(name)}", f"{name} of the run.", value)
        yield from _samplers(state)


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value)


def _as_name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", text)


def _phases(state: learner_pb2.WatchRunResponse) -> Metric:
    family = GaugeMetricFamily(
        "wiserl_run_phase", "1 for the phase that the run is in.", labels=["phase"]
    )
    for name, value in _PHASES.items():
        phase = name.removeprefix("RUN_PHASE_").lower()
        if value.number:
            family.add_metric([phase], float(state.phase == value.number))
    return family


def _samplers(state: learner_pb2.WatchRunResponse) -> Iterator[Metric]:
    steps = CounterMetricFamily(
        "wiserl_sampler_environment_steps", "Valid steps accepted of a sampler.", labels=_LABELS
    )
    lag = GaugeMetricFamily(
        "wiserl_sampler_policy_lag", "Versions that its policy is behind.", labels=_LABELS
    )
    silence = GaugeMetricFamily(
        "wiserl_sampler_silence_seconds", "Time since its last pull.", labels=_LABELS
    )
    slots = GaugeMetricFamily("wiserl_sampler_slots", "Its environment copies.", labels=_LABELS)
    for sampler in state.samplers:
        labels = [str(sampler.index), sampler.name]
        steps.add_metric(labels, sampler.environment_steps)
        lag.add_metric(labels, max(0, state.version - sampler.version))
        silence.add_metric(labels, sampler.seconds_since_pull)
        slots.add_metric(labels, sampler.slots)
    yield from (steps, lag, silence, slots)
