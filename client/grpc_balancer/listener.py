"""What a channel tells of its work as it happens, to whoever counts it: `otel.Metrics`, or something of one's own.

The core knows these two Protocols and nothing of metrics. Without a listener a call pays a look at `None` for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from grpc import StatusCode

from grpc_balancer.endpoint import Route
from grpc_registry import Instance


@dataclass(frozen=True, slots=True)
class CallSummary:
    """One call, from when it was made to its end, in gRFC A96's terms. Times in seconds."""

    seconds: float
    retries: int = 0
    """Attempts after the first that the retry policy asked for."""
    transparent_retries: int = 0
    """Attempts in the place of one that provably reached no server."""
    hedges: int = 0
    """Attempts after the first that the hedging policy asked for."""
    retry_delay: float = 0.0
    """How long there was no attempt at all, between two of them."""


class Listener(Protocol):
    """One channel's. It is called in the channel's event loop, must be quick, and must not raise."""

    def attempt_started(self, route: Route) -> None:
        """An attempt begins, and looks for an endpoint."""

    def picked(self, instance: Instance) -> None:
        """An attempt has its endpoint."""

    def attempt_ended(self, route: Route, code: StatusCode, seconds: float) -> None:
        """An attempt is over, after so many seconds, those without an endpoint included."""

    def call_ended(self, route: Route, code: StatusCode, summary: CallSummary) -> None:
        """A call is over, before whoever waits for it knows."""

    def outlier_found(self, method: str, spared: str) -> None:
        """Outlier detection found an endpoint by `method`, and ejected it, or `spared` says why not (else empty).

        gRFC A91 has the words: `success_rate`, `failure_percentage` and here `consecutive_failures` too; and
        `enforcement_percentage` or `max_ejection_overflow`.
        """

    def closed(self) -> None:
        """The channel is closed. Calls that it had may still end."""


class Standing(NamedTuple):
    """An endpoint as it stands."""

    instance: Instance
    outstanding: int
    state: str
    """One of `STATES`."""


STATES = ("ready", "idle", "connecting", "transient_failure", "ejected", "draining", "retiring")
"""How an endpoint can stand. Only those that are ready are picked. Retiring: it left the registry, and finishes."""


class Observed(Protocol):
    """A channel as it stands. It may be looked at from any thread."""

    @property
    def service(self) -> str: ...

    @property
    def policy(self) -> str: ...

    @property
    def standings(self) -> Sequence[Standing]: ...

    @property
    def waiting(self) -> int:
        """Calls that wait for an endpoint."""

    @property
    def stale_for(self) -> float:
        """Seconds for which the registry was not heard of; 0 if what is known is current."""


ListenerFactory = Callable[[Observed], Listener]
"""Makes the listener of a channel."""
