"""What a call can hope for when no endpoint takes it, and the message it fails with when that is nothing."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from grpc import ChannelConnectivity

from grpc_registry import Instance, Resolution, Snapshot, State, Unresolved

_NAMED_AT_MOST = 3


class Outlook(enum.Enum):
    """Every state of affairs has a name; only `NONE` fails a call that does not wait for ready."""

    READY = "an endpoint can be picked"
    PENDING = "the first resolution or a connection is under way"
    NONE = "nothing is under way that could bring an endpoint soon"


class Described(Protocol):
    """What the message tells of an endpoint."""

    @property
    def instance(self) -> Instance: ...

    @property
    def connectivity(self) -> ChannelConnectivity: ...

    @property
    def error(self) -> str: ...


def describe(service: str, resolution: Resolution | None, endpoints: Sequence[Described], stale_for: float) -> str:
    """One line that names the service and says what was known; `stale_for` is in seconds, for a stale snapshot."""
    begin = f"no endpoint of {service!r}: "
    if resolution is None:
        return begin + "the registry has not answered yet"
    if isinstance(resolution, Unresolved):
        return begin + f"the registry has not answered ({resolution.reason})"
    return begin + f"{_endpoints(endpoints)}; {_snapshot(resolution, stale_for)}"


def _endpoints(endpoints: Sequence[Described]) -> str:
    if not endpoints:
        return "no instance is registered"
    serving = [endpoint for endpoint in endpoints if endpoint.instance.state is State.SERVING]
    draining = f"{len(endpoints) - len(serving)} draining"
    if not serving:
        return f"no instance is serving, {draining}"
    away = [endpoint for endpoint in serving if endpoint.connectivity is not ChannelConnectivity.READY]
    told = [f"{endpoint.instance.address}: {_reason(endpoint)}" for endpoint in away[:_NAMED_AT_MOST]]
    if len(away) > _NAMED_AT_MOST:
        told.append(f"and {len(away) - _NAMED_AT_MOST} more")
    text = f"{len(serving) - len(away)} of {len(serving)} instances are connected"
    text += f" ({'; '.join(told)})" if told else ""
    return text + (f", {draining}" if len(endpoints) > len(serving) else "")


def _reason(endpoint: Described) -> str:
    return endpoint.error or endpoint.connectivity.name.lower().replace("_", " ")


def _snapshot(snapshot: Snapshot, stale_for: float) -> str:
    stale = f", stale for {stale_for:.0f} s" if snapshot.stale else ""
    return f"registry snapshot at revision {snapshot.revision}{stale}"
