"""How much is pending, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shop_services.product.overlay import Overlay


class PendingCounts(Collector):
    """Collects what `overlay` knows when it is asked for it."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def collect(self) -> Iterator[Metric]:
        """How many products have a pending change, how long one has waited, and how old that knowledge is."""
        now = self._overlay.clock()
        oldest = min((entry.seen for _, entry in self._overlay.active()), default=now)
        pending = len(self._overlay) + len(self._overlay.orphans)
        yield GaugeMetricFamily(
            "shop_catalog_pending", "Products with a change that is not known to be written.", pending
        )
        yield GaugeMetricFamily(
            "shop_catalog_pending_age_seconds", "How long this instance has known of the oldest of them.", now - oldest
        )
        yield GaugeMetricFamily(
            "shop_catalog_pending_known_age_seconds", "Since when changes may be missing.", now - self._overlay.as_of
        )
