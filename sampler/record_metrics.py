"""What a sampler knows of itself, as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from sampler.record import Record

_COUNTERS = {
    "rows_rolled": "Rows rolled, in training and evaluation.",
    "rows_dropped": "Rows rolled and thrown away.",
    "worker_restarts": "Environment workers that crashed or hung and were replaced.",
    "pushes_refused": "Pushes that were refused for good.",
    "policy_seconds": "Seconds that the policy took, summed over workers.",
    "environment_seconds": "Seconds that the environments took, summed over workers.",
    "idle_seconds": "Seconds that workers waited for work, summed over them.",
}


class RecordCollector(Collector):
    """The record as Prometheus reads it.

    Args:
        record: What is told.
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        record = self._record
        handled = CounterMetricFamily(
            "grpc_client_handled",
            "Calls of the learner that were answered, each attempt of a call by itself.",
            labels=["grpc_method", "grpc_code"],
        )
        for (method, code), count in list(record.calls.items()):
            handled.add_metric([method, code], count)
        yield handled
        yield GaugeMetricFamily(
            "wiserl_sampler_policy_version", "The newest policy heard of.", record.version
        )
        for name, documentation in _COUNTERS.items():
            value = getattr(record.progress, name)
            yield CounterMetricFamily(f"wiserl_sampler_{name}", documentation, value)
