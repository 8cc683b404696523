"""What a concurrency limit did, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shop_services.runtime.overload.limit import ConcurrencyLimit


class LimitCounts(Collector):
    """Collects the state of `limit`, and the number of `streams`, which it does not count, when it is asked.

    The names of its metrics begin with `prefix`.
    """

    def __init__(self, limit: ConcurrencyLimit, streams: Callable[[], int], prefix: str = "shop_server") -> None:
        self._limit = limit
        self._streams = streams
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        """The limit, what is in progress, and how many were admitted and refused."""
        limit, prefix = self._limit, f"{self._prefix}_concurrency"
        yield GaugeMetricFamily(f"{prefix}_limit", "Calls that may be in progress at once.", limit.limit)
        yield GaugeMetricFamily(f"{prefix}_in_progress", "Calls in progress.", limit.in_progress)
        yield GaugeMetricFamily(f"{prefix}_streams", "Streams in progress.", self._streams())
        calls = CounterMetricFamily(f"{prefix}_calls", "Calls, by what became of them.", labels=["outcome"])
        calls.add_metric(["admitted"], limit.admitted)
        calls.add_metric(["refused"], limit.refused)
        yield calls
