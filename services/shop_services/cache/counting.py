"""What each namespace holds on this instance and did there, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shop_services.caching.counts import Counts

_FAMILIES: Mapping[str, tuple[type[CounterMetricFamily | GaugeMetricFamily], str]] = {
    "hits": (CounterMetricFamily, "Looks that found a value."),
    "misses": (CounterMetricFamily, "Looks that found none."),
    "sets": (CounterMetricFamily, "Values stored."),
    "deletes": (CounterMetricFamily, "Values deleted or cleared."),
    "evictions": (CounterMetricFamily, "Values forgotten to make room."),
    "expirations": (CounterMetricFamily, "Values forgotten when their time had come."),
    "entries": (GaugeMetricFamily, "Values that there are."),
    "bytes": (GaugeMetricFamily, "Bytes that their keys and values take."),
}
"""By the names of the fields of `Counts`."""


class NamespaceCounts(Collector):
    """`shop_cache_*` with the label `namespace`. What cannot be known, as the values are in a Redis, is left out."""

    def __init__(self, counts: Callable[[], Mapping[str, Counts]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """As `Collector` has it."""
        counts = self._counts()
        for field, (make, text) in _FAMILIES.items():
            family = make(f"shop_cache_{field}", text, labels=["namespace"])
            for namespace, counted in counts.items():
                value = getattr(counted, field)
                if value is not None:
                    family.add_metric([namespace], value)
            yield family
