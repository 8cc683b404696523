"""How a channel treats its endpoints, beside the policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grpc_registry.service_config import OutlierDetection


@dataclass(frozen=True, slots=True)
class OutstandingLimit:
    """How many calls an endpoint may have in progress, and what happens to a call if all have that many.

    `queue` calls of the channel wait, within their deadlines, in the order in which they came; what goes beyond fails
    with UNAVAILABLE, as Envoy's circuit breakers and gRFC A32 have it. With 0 every one fails at once.

    Raises:
        ValueError: `per_endpoint` is less than 1, or `queue` negative.
    """

    per_endpoint: int
    queue: int = 0

    def __post_init__(self) -> None:
        if not _is_count(self.per_endpoint, 1):
            raise ValueError(f"per_endpoint {self.per_endpoint!r}: a number of calls, at least 1")
        if not _is_count(self.queue, 0):
            raise ValueError(f"queue {self.queue!r}: a number of calls, at least 0")


@dataclass(frozen=True, slots=True)
class Rules:
    """What `Balancer` goes by. Times in seconds."""

    outlier_detection: OutlierDetection | None = None
    slow_start: float = 0.0
    """For how long an endpoint that joins others gets less than its share; 0: it gets it at once."""
    zone: str = ""
    """Where we are; empty: zones do not matter."""
    max_endpoints: int | None = None
    """To how many instances there are connections at most; None: to all."""
    subset_key: str = ""
    """What tells this client from others when each chooses its own `max_endpoints`."""

    def __post_init__(self) -> None:
        if not _is_number(self.slow_start) or not 0 <= self.slow_start < math.inf:
            raise ValueError(f"slow_start {self.slow_start!r}: a number of seconds, at least 0")
        if self.max_endpoints is not None and not _is_count(self.max_endpoints, 1):
            raise ValueError(f"max_endpoints {self.max_endpoints!r}: a whole number, at least 1, or None")
        for name in ("zone", "subset_key"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} {getattr(self, name)!r}: a text")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
