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
        if self.per_endpoint < 1:
            raise ValueError(f"per_endpoint {self.per_endpoint!r}: at least 1 call")
        if self.queue < 0:
            raise ValueError(f"queue {self.queue!r}: at least 0 calls")


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
        if not 0 <= self.slow_start < math.inf:
            raise ValueError(f"slow_start {self.slow_start!r}: a number of seconds, at least 0")
        if self.max_endpoints is not None and self.max_endpoints < 1:
            raise ValueError(f"max_endpoints {self.max_endpoints!r}: at least 1")
