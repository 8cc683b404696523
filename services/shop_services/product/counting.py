"""What the catalog's caches did, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shop_services.caching.tiers import ReadCounts
from shop_services.product.caches import Caches


class CatalogCounts(Collector):
    """Collects the counts of `caches` when it is asked for them."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    def collect(self) -> Iterator[Metric]:
        """Counts of each tier (`local`: in this process; `shared`) by kind of what is read, and how far the log of
        changes was followed."""
        kinds = {"product": self._caches.products.counts(), "list": self._caches.pages.counts()}
        tiers = CounterMetricFamily(
            "shop_catalog_cache", "Looks of the catalog into its caches.", labels=["kind", "tier", "outcome"]
        )
        database = CounterMetricFamily(
            "shop_catalog_database", "Reads of the catalog and what they cost the database.", labels=["kind", "outcome"]
        )
        for kind, counts in kinds.items():
            for tier, outcomes in _outcomes(counts).items():
                for outcome, count in outcomes.items():
                    tiers.add_metric([kind, tier, outcome], count)
            for outcome, count in (("load", counts.loads), ("error", counts.load_errors), ("wait", counts.waits)):
                database.add_metric([kind, outcome], count)
        yield tiers
        yield database
        recent = self._caches.recent
        yield GaugeMetricFamily("shop_catalog_revision", "The latest change that this instance knows.", recent.head)
        yield GaugeMetricFamily(
            "shop_catalog_revision_age_seconds", "Since when nothing newer is known for sure.", recent.age
        )


def _outcomes(counts: ReadCounts) -> dict[str, dict[str, int]]:
    return {
        name: {
            "hit": tier.hits,
            "miss": tier.misses,
            "stale": tier.stale,
            "error": tier.errors,
            "skipped": tier.skipped,
        }
        for name, tier in (("local", counts.local), ("shared", counts.shared))
    }
