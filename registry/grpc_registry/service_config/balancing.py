"""`loadBalancingConfig`: which policy, with which settings, and the outlier detection around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from grpc_registry.service_config.json_fields import (
    Fields,
    InvalidServiceConfig,
    integer,
    items,
    positive,
    positive_duration,
    text,
    wrong,
)
from grpc_registry.service_config.model import (
    Balancing,
    FailurePercentage,
    OutlierDetection,
    RingHash,
    SuccessRate,
)

T = TypeVar("T")

POLICIES = (
    "least_outstanding",
    "peak_ewma",
    "pick_first",
    "random",
    "ring_hash",
    "round_robin",
    "weighted_round_robin",
)
"""The policies that every client of this project has."""

OUTLIER_DETECTION = "outlier_detection_experimental"
"""The name that gRFC A50 gives it in JSON."""

_MOST_ENTRIES = 8_388_608  # gRFC A42: of a ring
_HEADER = re.compile(r"[0-9a-z_.-]*")  # the keys that gRPC's metadata may have, in lower case


def balancing(value: Any, path: str, known: Collection[str], *, inside_outlier_detection: bool = False) -> Balancing:
    """The first entry whose policy is known."""
    # service_config.proto: "clients will iterate through the list in order and stop at the first policy that they
    # support. If none are supported, the service config is considered invalid."
    for entry, entry_path in items(value, path):
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise wrong(entry, entry_path, "an object with one field, named for a policy")
        ((name, settings),) = entry.items()
        inside = f"{entry_path}.{name}"
        if name == OUTLIER_DETECTION:
            if inside_outlier_detection:
                raise InvalidServiceConfig(inside, "is inside another outlier detection, of which only one can count")
            return _outlier_detection(Fields(settings, inside), known)
        if name in known:
            return Balancing(str(name), _settings(str(name), settings, inside))
    raise wrong(value, path, f"a list with a known policy ({', '.join(sorted(known))})")


def old_policy(value: Any, path: str, known: Collection[str]) -> Balancing:
    """What the deprecated `loadBalancingPolicy` names."""
    name = text(value, path).lower()  # an enum there, so `ROUND_ROBIN`; in JSON as people write it, `round_robin`
    if name not in known:
        raise wrong(value, path, f"a known policy ({', '.join(sorted(known))})")
    return Balancing(name)


def _settings(name: str, value: Any, path: str) -> RingHash | Mapping[str, Any] | None:
    fields = Fields(value, path)
    if name == "ring_hash":
        return _ring_hash(fields, path)
    return None if name in POLICIES else dict(value)


def _ring_hash(fields: Fields, path: str) -> RingHash:
    # gRFC A42: at most 8M entries.
    default = RingHash()
    least = fields.get("minRingSize", integer(1, _MOST_ENTRIES)) or default.min_ring_size
    most = fields.get("maxRingSize", integer(1, _MOST_ENTRIES)) or max(default.max_ring_size, least)
    if least > most:
        raise wrong(least, f"{path}.minRingSize", f"at most maxRingSize, {most}")
    factor = fields.get("loadFactor", _load_factor)
    header = fields.get("requestHashHeader", _header) or ""
    return RingHash(header, least, most, default.load_factor if factor is None else factor)


def _load_factor(value: Any, path: str) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    factor = positive(value, path)
    if factor <= 1:
        raise wrong(value, path, "more than 1, or 0 for no bound")
    return factor


def _header(value: Any, path: str) -> str:
    # gRFC A76: "requestHashHeader [...] if the header name ends in -bin, the config is rejected"
    name = text(value, path).lower()
    if not _HEADER.fullmatch(name) or name.endswith("-bin"):
        raise wrong(value, path, "the name of a text header (letters, digits, '_', '.', '-'), without -bin at its end")
    return name


def _outlier_detection(fields: Fields, known: Collection[str]) -> Balancing:
    default = OutlierDetection()

    def get(name: str, read: Callable[[Any, str], T], otherwise: T) -> T:
        value = fields.get(name, read)
        return otherwise if value is None else value

    child = fields.need("childPolicy", lambda value, path: balancing(value, path, known, inside_outlier_detection=True))
    base = get("baseEjectionTime", positive_duration, default.base_ejection_time)
    return Balancing(
        child.policy,
        child.settings,
        OutlierDetection(
            interval=get("interval", positive_duration, default.interval),
            base_ejection_time=base,
            # gRFC A50: "max_ejection_time [...] max(base_ejection_time, 300s)"
            max_ejection_time=max(base, get("maxEjectionTime", positive_duration, default.max_ejection_time)),
            max_ejection_percent=get("maxEjectionPercent", _percent, default.max_ejection_percent),
            consecutive_failures=get("consecutiveFailures", _number, default.consecutive_failures),
            success_rate=fields.get("successRateEjection", _success_rate),
            failure_percentage=fields.get("failurePercentageEjection", _failure_percentage),
        ),
    )


_percent = integer(0, 100)
_number = integer(0, (1 << 32) - 1)  # gRFC A50: a UInt32Value


def _success_rate(value: Any, path: str) -> SuccessRate:
    fields, default = Fields(value, path), SuccessRate()
    return SuccessRate(
        stdev_factor=_or(fields.get("stdevFactor", _number), default.stdev_factor),
        enforcement_percentage=_or(fields.get("enforcementPercentage", _percent), default.enforcement_percentage),
        minimum_hosts=_or(fields.get("minimumHosts", _number), default.minimum_hosts),
        request_volume=_or(fields.get("requestVolume", _number), default.request_volume),
    )


def _failure_percentage(value: Any, path: str) -> FailurePercentage:
    fields, default = Fields(value, path), FailurePercentage()
    return FailurePercentage(
        threshold=_or(fields.get("threshold", _percent), default.threshold),
        enforcement_percentage=_or(fields.get("enforcementPercentage", _percent), default.enforcement_percentage),
        minimum_hosts=_or(fields.get("minimumHosts", _number), default.minimum_hosts),
        request_volume=_or(fields.get("requestVolume", _number), default.request_volume),
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
