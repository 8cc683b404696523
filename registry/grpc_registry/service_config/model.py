"""What a valid service config says. None: it does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode

_LONGEST = 315_576_000_000.0  # seconds that google.protobuf.Duration can hold


def _check(value: object, name: str, least: float, most: float = 2**32 - 1, *, whole: bool = True) -> None:
    kinds = (int,) if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} {value!r}: {kind} from {least:g} to {most:g}")


def _check_rates(rates: SuccessRate | FailurePercentage) -> None:
    _check(rates.enforcement_percentage, "enforcement_percentage", 0, 100)
    _check(rates.minimum_hosts, "minimum_hosts", 0)
    _check(rates.request_volume, "request_volume", 0)


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint that keeps failing is ejected: gRFC A50, with Envoy's consecutive failures. Times in seconds.

    None for `success_rate` or `failure_percentage` and 0 for `consecutive_failures` switch that algorithm off.

    Raises:
        ValueError: a setting is of another kind, or out of its range; so do those two.
    """

    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_percent: int = 10
    """Of the endpoints, but one may always be ejected (Envoy)."""
    consecutive_failures: int = 5
    success_rate: SuccessRate | None = None
    failure_percentage: FailurePercentage | None = None

    def __post_init__(self) -> None:
        for name in ("interval", "base_ejection_time", "max_ejection_time"):
            _check(getattr(self, name), name, 0.001, _LONGEST, whole=False)
        _check(self.max_ejection_percent, "max_ejection_percent", 0, 100)
        _check(self.consecutive_failures, "consecutive_failures", 0)
        if not isinstance(self.success_rate, SuccessRate | None):
            raise ValueError(f"success_rate {self.success_rate!r}: a SuccessRate, or None")
        if not isinstance(self.failure_percentage, FailurePercentage | None):
            raise ValueError(f"failure_percentage {self.failure_percentage!r}: a FailurePercentage, or None")


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """Ejects those whose rate of success lies `stdev_factor` / 1000 standard deviations under the mean."""

    stdev_factor: int = 1900
    enforcement_percentage: int = 100
    minimum_hosts: int = 5
    request_volume: int = 100

    def __post_init__(self) -> None:
        _check(self.stdev_factor, "stdev_factor", 0)
        _check_rates(self)


@dataclass(frozen=True, slots=True)
class FailurePercentage:
    """Ejects those of whose calls at least `threshold` percent failed."""

    threshold: int = 85
    enforcement_percentage: int = 100
    minimum_hosts: int = 5
    request_volume: int = 50

    def __post_init__(self) -> None:
        _check(self.threshold, "threshold", 0, 100)
        _check_rates(self)


@dataclass(frozen=True, slots=True)
class RingHash:
    """The settings of `ring_hash` (gRFC A42, A76)."""

    header: str = ""
    """The metadata key whose value is hashed (`requestHashHeader`); empty, or not in a call: a random endpoint."""
    min_ring_size: int = 512
    max_ring_size: int = 65_536
    """gRFC A42 has 1024 and 4096, with which every change moves about twice the keys that it should."""
    load_factor: float = 1.25
    """Bounded load: an endpoint with more than this times the mean of outstanding calls passes a call on; 0: never."""


@dataclass(frozen=True, slots=True)
class Balancing:
    """A policy by name, with its settings: one entry of `loadBalancingConfig`."""

    policy: str
    settings: RingHash | Mapping[str, Any] | None = None
    """Typed for the policies that have any; for a policy of one's own the JSON object as it came."""
    outlier_detection: OutlierDetection | None = None
    """If the entry was `outlier_detection_experimental`, whose child `policy` is then (gRFC A50)."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed call is made again. `max_attempts` counts the first one too; backoffs are in seconds."""

    max_attempts: int
    initial_backoff: float
    max_backoff: float
    backoff_multiplier: float
    codes: frozenset[StatusCode]
    """`retryableStatusCodes`: failures with another status are final."""


@dataclass(frozen=True, slots=True)
class HedgingPolicy:
    """When a call is sent again before it failed. `delay` is in seconds; 0 sends all attempts at once."""

    max_attempts: int
    delay: float
    codes: frozenset[StatusCode]
    """`nonFatalStatusCodes`: a failure with another status ends the call."""


@dataclass(frozen=True, slots=True)
class RetryThrottling:
    """How many failures, of all methods together, stop the retries: those that bring the tokens down to half."""

    max_tokens: int
    token_ratio: float
    """Tokens that a success gives back; at most three decimals."""


@dataclass(frozen=True, slots=True)
class MethodConfig:
    """What holds for the calls of a method. None: the config does not say."""

    timeout: float | None = None
    """Seconds. The shorter of this and the caller's counts."""
    wait_for_ready: bool | None = None
    """For calls that do not say it themselves."""
    retry: RetryPolicy | None = None
    hedging: HedgingPolicy | None = None
    """At most one of `retry` and `hedging` is there."""


UNSAID = MethodConfig()
"""What holds for the methods that a config does not name."""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A valid service config. None: it does not say."""

    methods: Mapping[str, MethodConfig] = field(default_factory=dict)
    """By `/service/method`, by `/service/` for the rest of a service, and by the empty text for all others."""
    balancing: Balancing | None = None
    """The first entry of `loadBalancingConfig` whose policy is known."""
    throttling: RetryThrottling | None = None
    health_service: str | None = None
    """What to ask grpc.health.v1 about, from `healthCheckConfig`; the empty text is the server as a whole."""

    def method(self, path: str) -> MethodConfig:
        """What holds for the method of that path, like `/shop.product.v1.ProductService/GetProduct`.

        service_config.proto: "the most specific match wins", and as a whole: nothing is merged into it from the others.
        """
        for key in (path, path[: path.rfind("/") + 1], ""):
            if key in self.methods:
                return self.methods[key]
        return UNSAID
