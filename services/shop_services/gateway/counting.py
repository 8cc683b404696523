"""What the gateway tells a Prometheus: its requests by RPC and status, and the services that it calls."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from grpc_balancer import Channel

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, the upper bounds of the buckets: from a read that a cache answers to the default deadline."""


class RequestCounts(Collector):
    """Counts requests, by plain numbers: the event loop is the only one to write or read them.

    The `rpc` of a request that no RPC serves, such as one for a page of the gateway's own, is empty.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, _Durations] = {}

    def began(self) -> None:
        """A request has come."""
        self._in_flight += 1

    def ended(self, rpc: str, status: int, seconds: float) -> None:
        """It was answered, or will never be: 499 if its client left."""
        self._in_flight -= 1
        key = (rpc, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        durations = self._seconds.get(rpc)
        if durations is None:
            durations = self._seconds[rpc] = _Durations()
        durations.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """As `Collector` has it."""
        yield GaugeMetricFamily("shop_gateway_requests_in_flight", "Requests not answered yet.", self._in_flight)
        requests = CounterMetricFamily(
            "shop_gateway_requests", "Requests by RPC and HTTP status.", labels=["rpc", "status"]
        )
        for (rpc, status), count in self._requests.items():
            requests.add_metric([rpc, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "shop_gateway_request_duration_seconds",
            "From a request's head to the end of its answer; of a stream, all of its life.",
            labels=["rpc"],
        )
        for rpc, durations in self._seconds.items():
            seconds.add_metric([rpc], durations.buckets(), durations.total)
        yield seconds


class InstanceCounts(Collector):
    """Tells of each service how many of its instances the gateway can call now."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels

    def collect(self) -> Iterator[Metric]:
        """As `Collector` has it."""
        instances = GaugeMetricFamily(
            "shop_gateway_service_instances",
            "Instances that can be called: serving, connected, not ejected.",
            labels=["service"],
        )
        for name, channel in self._channels.items():
            instances.add_metric([name], len(channel.instances))
        yield instances


class _Durations:
    """A histogram of seconds."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound with how many were not above it, as Prometheus has buckets."""
        result: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._counts, strict=True):
            so_far += count
            result.append((bound, so_far))
        return result
