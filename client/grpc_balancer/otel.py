"""Metrics of channels by OpenTelemetry's API, under the names of gRFC A66, A91 and A96, and some of our own.

    provider = MeterProvider(metric_readers=[...])                        # of OpenTelemetry's SDK, with any exporter
    channel = Channel("product", registry, metrics=Metrics(provider))

It needs the package `opentelemetry-api`, which `pip install 'grpc-balancer[otel]'` brings; the SDK and the exporter are
the application's choice. docs/metrics.md has the table of them.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from weakref import WeakKeyDictionary, WeakSet

from grpc import StatusCode

from grpc_balancer.endpoint import Route
from grpc_balancer.listener import STATES, CallSummary, Observed
from grpc_registry import Instance

try:
    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation
except ImportError as error:
    raise ImportError("grpc_balancer.otel needs opentelemetry-api: pip install 'grpc-balancer[otel]'") from error

__all__ = ["Metrics"]

METHOD, STATUS, TARGET = "grpc.method", "grpc.status", "grpc.target"
DETECTION, UNENFORCED = "grpc.lb.outlier_detection.detection_method", "grpc.lb.outlier_detection.unenforced_reason"
INSTANCE, POLICY, STATE = "grpc_balancer.instance", "grpc_balancer.policy", "grpc_balancer.state"

OTHER = "other"
"""gRFC A66: the method of a call that no generated stub made, since such names may be without number."""

# gRFC A66 and A96: the recommended boundaries; seconds, and numbers of attempts.
# fmt: off
LATENCY = (
    0.0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.013,
    0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0,
    5.0, 10.0, 20.0, 50.0, 100.0,
)
# fmt: on
REPEATS = (1.0, 2.0, 3.0, 4.0, 5.0)
TRANSPARENT_REPEATS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0)

Labels = dict[str, str]
Key = tuple[tuple[str, str], ...]


class Metrics:
    """What `Channel` takes as `metrics`. One may serve many channels, and many may share a provider.

    Args:
        meter_provider: where the metrics go. As gRFC A66 wants it, OpenTelemetry's global one is not used unasked; say
            `opentelemetry.metrics.get_meter_provider()` for it.
        generic_method_attribute_filter: whether to name a method that no generated stub registered, like
            `pkg.Service/Method`. By default none is: all of them are `other`.
    """

    def __init__(
        self, meter_provider: MeterProvider, *, generic_method_attribute_filter: Callable[[str], bool] | None = None
    ) -> None:
        self._instruments = _instruments_of(meter_provider)
        self._names_generic = generic_method_attribute_filter

    def __call__(self, channel: Observed) -> _Listener:
        return _Listener(self._instruments, channel, self._names_generic)


class _Instruments:
    """All of one provider, made once: OpenTelemetry has no way to take back an instrument that observes."""

    def __init__(self, meter: Meter) -> None:
        self._lock = threading.Lock()  # readers come in threads of their own
        self._listeners: WeakSet[_Listener] = WeakSet()
        self._picks: dict[tuple[str, str, str], int] = {}  # by target, instance and policy
        self.attempts = meter.create_counter(
            "grpc.client.attempt.started", "{attempt}", "Attempts of calls started, including those not completed"
        )
        self.attempt_duration = _latency(meter, "grpc.client.attempt.duration", "Time that an attempt of a call took")
        self.call_duration = _latency(
            meter, "grpc.client.call.duration", "Time that a call took, all attempts included"
        )
        self.retries = meter.create_histogram(
            "grpc.client.call.retries",
            "{retry}",
            "Retries of a call, if there were any",
            explicit_bucket_boundaries_advisory=REPEATS,
        )
        self.transparent_retries = meter.create_histogram(
            "grpc.client.call.transparent_retries",
            "{transparent_retry}",
            "Transparent retries of a call, if there were any",
            explicit_bucket_boundaries_advisory=TRANSPARENT_REPEATS,
        )
        self.hedges = meter.create_histogram(
            "grpc.client.call.hedges",
            "{hedge}",
            "Hedges of a call, if there were any",
            explicit_bucket_boundaries_advisory=REPEATS,
        )
        self.retry_delay = _latency(
            meter, "grpc.client.call.retry_delay", "Time of a call without any attempt in progress, if there was any"
        )
        self.ejections = meter.create_counter(
            "grpc.lb.outlier_detection.ejections_enforced", "{ejection}", "Ejections by outlier detection"
        )
        self.unenforced_ejections = meter.create_counter(
            "grpc.lb.outlier_detection.ejections_unenforced",
            "{ejection}",
            "Outliers that were not ejected, because of a maximum or the enforcement percentage",
        )
        meter.create_observable_counter(
            "grpc_balancer.picks", [self._observe_picks], "{pick}", "Picks of instances that are still connected to"
        )
        meter.create_observable_up_down_counter(
            "grpc_balancer.outstanding", [self._observe_outstanding], "{call}", "Calls in progress at an instance"
        )
        meter.create_observable_up_down_counter(
            "grpc_balancer.endpoints", [self._observe_endpoints], "{endpoint}", "Endpoints by how they stand"
        )
        meter.create_observable_up_down_counter(
            "grpc_balancer.waiting", [self._observe_waiting], "{call}", "Calls that wait for an endpoint"
        )
        meter.create_observable_gauge(
            "grpc_balancer.staleness", [self._observe_staleness], "s", "Time since the registry was last heard of"
        )

    def add(self, listener: _Listener) -> None:
        with self._lock:
            self._listeners.add(listener)

    def remove(self, listener: _Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)

    def picked(self, target: str, instance: str, policy: str) -> None:
        key = target, instance, policy
        with self._lock:
            self._picks[key] = self._picks.get(key, 0) + 1

    # Called by a reader. Channels to one service are one target, so they are summed up.

    def _live(self) -> list[_Listener]:
        with self._lock:
            return list(self._listeners)

    def _observe_picks(self, _: CallbackOptions) -> Iterable[Observation]:
        present = {(one.target, instance.id) for one in self._live() for instance, _, _ in one.channel.standings}
        with self._lock:
            # Instances come and go without end. What was told of one that is gone is not needed any more.
            self._picks = {key: picks for key, picks in self._picks.items() if key[:2] in present}
            picked = list(self._picks.items())
        for (target, instance, policy), picks in picked:
            yield Observation(picks, {TARGET: target, INSTANCE: instance, POLICY: policy})

    def _observe_outstanding(self, _: CallbackOptions) -> Iterable[Observation]:
        return _summed(
            (((TARGET, one.target), (INSTANCE, instance.id)), outstanding)
            for one in self._live()
            for instance, outstanding, _ in one.channel.standings
        )

    def _observe_endpoints(self, _: CallbackOptions) -> Iterable[Observation]:
        def numbers() -> Iterator[tuple[Key, int]]:
            for one in self._live():
                states = [state for _, _, state in one.channel.standings]
                for state in STATES:  # with its zeros, so that what is over does not seem to last
                    yield ((TARGET, one.target), (STATE, state)), states.count(state)

        return _summed(numbers())

    def _observe_waiting(self, _: CallbackOptions) -> Iterable[Observation]:
        return _summed((((TARGET, one.target),), one.channel.waiting) for one in self._live())

    def _observe_staleness(self, _: CallbackOptions) -> Iterable[Observation]:
        oldest: defaultdict[str, float] = defaultdict(float)
        for one in self._live():
            oldest[one.target] = max(oldest[one.target], one.channel.stale_for)
        return [Observation(seconds, {TARGET: target}) for target, seconds in oldest.items()]


class _Listener:
    """A `Listener`: one channel's part in the instruments."""

    def __init__(
        self, instruments: _Instruments, channel: Observed, names_generic: Callable[[str], bool] | None
    ) -> None:
        self.channel = channel
        self.target = f"mesh:///{channel.service}"
        """gRFC A66: "For channels [...] where a target URI is not available, implementations can synthesize" one."""
        self._instruments = instruments
        self._names_generic = names_generic
        self._labels: dict[tuple[str, StatusCode | None], Labels] = {}
        instruments.add(self)

    def attempt_started(self, route: Route) -> None:
        self._instruments.attempts.add(1, self._labels_of(route))

    def picked(self, instance: Instance) -> None:
        self._instruments.picked(self.target, instance.id, self.channel.policy)

    def attempt_ended(self, route: Route, code: StatusCode, seconds: float) -> None:
        self._instruments.attempt_duration.record(seconds, self._labels_of(route, code))

    def call_ended(self, route: Route, code: StatusCode, summary: CallSummary) -> None:
        instruments = self._instruments
        instruments.call_duration.record(summary.seconds, self._labels_of(route, code))
        # gRFC A96: "If there were no retries, 0 is not reported", and so on.
        if summary.retries:
            instruments.retries.record(summary.retries, self._labels_of(route))
        if summary.transparent_retries:
            instruments.transparent_retries.record(summary.transparent_retries, self._labels_of(route))
        if summary.hedges:
            instruments.hedges.record(summary.hedges, self._labels_of(route))
        if summary.retry_delay:
            instruments.retry_delay.record(summary.retry_delay, self._labels_of(route))

    def outlier_found(self, method: str, spared: str) -> None:
        labels = {TARGET: self.target, DETECTION: method}
        if spared:
            self._instruments.unenforced_ejections.add(1, {**labels, UNENFORCED: spared})
        else:
            self._instruments.ejections.add(1, labels)

    def closed(self) -> None:
        self._instruments.remove(self)

    def _labels_of(self, route: Route, code: StatusCode | None = None) -> Labels:
        _, method, registered = route
        method = method.removeprefix("/")
        if not registered and not (self._names_generic is not None and self._names_generic(method)):
            method = OTHER
        labels = self._labels.get((method, code))
        if labels is None:
            labels = self._labels[method, code] = {METHOD: method, TARGET: self.target}
            if code is not None:
                labels[STATUS] = code.name
        return labels


_made: WeakKeyDictionary[MeterProvider, _Instruments] = WeakKeyDictionary()
_making = threading.Lock()


def _instruments_of(provider: MeterProvider) -> _Instruments:
    with _making:
        instruments = _made.get(provider)
        if instruments is None:
            meter = provider.get_meter("grpc-balancer", version("grpc-balancer"))
            instruments = _made[provider] = _Instruments(meter)
        return instruments


def _latency(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=LATENCY)


def _summed(numbers: Iterable[tuple[Key, int]]) -> list[Observation]:
    sums: defaultdict[Key, int] = defaultdict(int)
    for key, number in numbers:
        sums[key] += number
    return [Observation(number, dict(key)) for key, number in sums.items()]
