"""What is looked at in a run: latency, failures, fairness and herding, and how some of it develops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from grpc import StatusCode

from simulation.calls import Call
from simulation.server import Server

BUCKET_SECONDS = 0.5
SAMPLE_SECONDS = 0.05

_QUANTILES = (0.0, *(n / 20 for n in range(1, 18)), 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.993, 0.996, 0.998, 0.999)
_SERVERS_SHOWN = 40
_LEAST_SECONDS = 1.0
"""Servers that were there for less say nothing of fairness."""


@dataclass(frozen=True)
class Result:
    """One scenario under one variant. Latencies and times are in seconds.

    A latency is the time until a call ended, however it ended, and `failed` says how many ended badly.
    """

    scenario: str
    variant: str
    seed: int
    calls: int
    failed: int
    attempts: int
    p50: float
    p90: float
    p99: float
    p999: float
    longest: float
    jain: float
    """Jain's index of the servers' attempts, for their weight and the time that they were there: 1 is all alike."""
    most_over_mean: float
    """Of the same: the most that one server had, over the mean."""
    odd_share: float | None
    """Attempts at the odd servers, for their weight, over those at all servers, in the scenario's window for that."""
    peak: int
    """The most calls that were ever at one server at a time."""
    peak_over_mean: float
    """That, over the mean of all servers and moments."""
    herding: float
    """The variance over the mean of the calls at the servers at a moment, averaged over the moments."""
    latency_curve: Sequence[tuple[float, float]] = field(repr=False)
    """Pairs of a quantile and the latency there."""
    p99_over_time: Sequence[tuple[float, float]] = field(repr=False)
    failures_over_time: Sequence[tuple[float, float]] = field(repr=False)
    """The share of the calls begun in each bucket that failed."""
    odd_share_over_time: Sequence[tuple[float, float]] = field(repr=False)
    calls_by_server: Sequence[float] = field(repr=False)
    """Attempts, for weight and time, over the mean of all, from the least to the most; of many servers some."""


@dataclass
class _Bucket:
    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    attempts: int = 0
    odd_attempts: int = 0
    odd_fair: float = 0.0
    """The share of the attempts that the odd servers' weight gives them."""


class Measure:
    """Told of every attempt and call, and of the servers' state at regular moments; `result` sums it up."""

    def __init__(self, warm_up: float, odd_window: tuple[float, float]) -> None:
        self.odd: set[Server] = set()
        self._warm_up = warm_up
        self._odd_from, self._odd_until = odd_window
        self._buckets: dict[int, _Bucket] = {}
        self._attempts: dict[Server, int] = {}
        self._seen: dict[Server, int] = {}  # the number of samples in which the server was there
        self._window = _Bucket()
        self._window_fair: list[float] = []
        self._moments: list[tuple[float, float]] = []  # mean and dispersion of the calls at the servers

    def _bucket(self, moment: float) -> _Bucket:
        index = int(moment / BUCKET_SECONDS)
        if index not in self._buckets:
            self._buckets[index] = _Bucket()
        return self._buckets[index]

    def attempted(self, server: Server, now: float) -> None:
        odd = server in self.odd
        if self._odd_from <= now < self._odd_until:
            self._window.attempts += 1
            self._window.odd_attempts += odd
        if now >= self._warm_up:
            bucket = self._bucket(now)
            bucket.attempts += 1
            bucket.odd_attempts += odd
            self._attempts[server] = self._attempts.get(server, 0) + 1

    def ended(self, call: Call, code: StatusCode, now: float) -> None:
        if call.began >= self._warm_up:
            bucket = self._bucket(call.began)
            bucket.latencies.append(now - call.began)
            bucket.failed += code is not StatusCode.OK

    def look(self, working: Sequence[Server], now: float) -> None:
        """Sample the state of the servers that are listed now."""
        fair = _weight(server for server in working if server in self.odd) / _weight(working)
        if self._odd_from <= now < self._odd_until:
            self._window_fair.append(fair)
        if now >= self._warm_up:
            self._bucket(now).odd_fair = fair
            for server in working:
                self._seen[server] = self._seen.get(server, 0) + 1
            counts = [len(server.jobs) for server in working]
            mean = sum(counts) / len(counts)
            if mean:
                self._moments.append((mean, sum((count - mean) ** 2 for count in counts) / len(counts) / mean))

    def result(self, scenario: str, variant: str, seed: int, peak: int) -> Result:
        """What was seen, and the most calls that were at one server at a time."""
        buckets = [(round(index * BUCKET_SECONDS, 3), self._buckets[index]) for index in sorted(self._buckets)]
        latencies = sorted(latency for _, bucket in buckets for latency in bucket.latencies)
        shares = _relative(
            self._attempts.get(server, 0) / server.instance.weight / samples
            for server, samples in self._seen.items()
            if samples * SAMPLE_SECONDS >= _LEAST_SECONDS
        )
        mean_at_server = _mean([mean for mean, _ in self._moments])
        return Result(
            scenario=scenario,
            variant=variant,
            seed=seed,
            calls=len(latencies),
            failed=sum(bucket.failed for _, bucket in buckets),
            attempts=sum(bucket.attempts for _, bucket in buckets),
            p50=quantile(latencies, 0.5),
            p90=quantile(latencies, 0.9),
            p99=quantile(latencies, 0.99),
            p999=quantile(latencies, 0.999),
            longest=latencies[-1],
            jain=1 / _mean([share * share for share in shares]),
            most_over_mean=shares[-1],
            odd_share=_over_fair(self._window, _mean(self._window_fair)),
            peak=peak,
            peak_over_mean=peak / mean_at_server,
            herding=_mean([dispersion for _, dispersion in self._moments]),
            latency_curve=[(part, quantile(latencies, part)) for part in _QUANTILES],
            p99_over_time=[
                (moment, quantile(sorted(bucket.latencies), 0.99)) for moment, bucket in buckets if bucket.latencies
            ],
            failures_over_time=[
                (moment, bucket.failed / len(bucket.latencies)) for moment, bucket in buckets if bucket.latencies
            ],
            odd_share_over_time=[
                (moment, share)
                for moment, bucket in buckets
                if (share := _over_fair(bucket, bucket.odd_fair)) is not None
            ],
            calls_by_server=[
                shares[index * (len(shares) - 1) // _SERVERS_SHOWN] for index in range(_SERVERS_SHOWN + 1)
            ],
        )


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value that `part` of all do not exceed. `ordered` must be sorted, and not empty."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _over_fair(bucket: _Bucket, fair: float) -> float | None:
    return bucket.odd_attempts / bucket.attempts / fair if fair and bucket.attempts else None


def _weight(servers: Iterable[Server]) -> int:
    return sum(server.instance.weight for server in servers)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _relative(values: Iterable[float]) -> list[float]:
    """Sorted, and divided by their mean."""
    ordered = sorted(values)
    mean = _mean(ordered)
    return [value / mean for value in ordered]
