"""The cache's counts, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from shop_services.cache.counting import NamespaceCounts
from shop_services.caching.counts import Counts


def test_every_count_of_every_namespace_is_told() -> None:
    """By name and namespace, as of the moment of the question; what is not known is not told."""
    counts = {
        "full": Counts(hits=1, misses=2, sets=3, deletes=4, evictions=5, expirations=6, entries=7, bytes=8),
        "elsewhere": Counts(hits=9),
    }
    registry = CollectorRegistry()
    registry.register(NamespaceCounts(lambda: counts))

    def told(name: str, namespace: str) -> float | None:
        return registry.get_sample_value(f"shop_cache_{name}", {"namespace": namespace})

    names = ["hits_total", "misses_total", "sets_total", "deletes_total", "evictions_total", "expirations_total"]
    assert [told(name, "full") for name in [*names, "entries", "bytes"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [told(name, "elsewhere") for name in [*names, "entries", "bytes"]] == [9, 0, 0, 0, None, None, None, None]
    counts["full"] = Counts(hits=10)
    assert told("hits_total", "full") == 10
