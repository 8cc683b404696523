"""The gRPC options of each endpoint's connection, and why they are what they are.

Options are gRPC's own `(name, value)` pairs; what a user gives replaces a default of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Options = tuple[tuple[str, Any], ...]

DEFAULTS: Options = (
    # One connection an endpoint. By default equal targets in a process share one, with its limit on streams, its
    # GOAWAYs and its reconnect backoff; an instance that replaces another at the same address would inherit all that.
    ("grpc.use_local_subchannel_pool", 1),
    # Addresses come from the registry, so they are dialled directly. A proxy that accepts everything would look READY.
    ("grpc.enable_http_proxy", 0),
    # Idle connections stay, since being connected makes an endpoint eligible (gRPC drops them after 30 minutes).
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    # Between attempts to connect: 0.2 s growing by 1.6 to 2 s (gRPC: 1 s to 120 s), so that an instance that comes back
    # serves within two seconds. An attempt that gets no answer at all ends after 5 s (gRPC: 20 s).
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Servers close connections that are pinged more often than they allow, by default every 5 minutes (gRFC A8). So: a
    # ping after 5.5 silent minutes, only while calls are in progress, and 20 s for its answer (gRPC's default for
    # keepalive; for its other pings that is a minute).
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
)

FOR_RETRIES: Options = (
    ("grpc.enable_retries", 0),
    # Retries are rare: let the connection go a minute after the last.
    ("grpc.client_idle_timeout_ms", 60_000),
)
"""What differs for the connection that an endpoint has for retries, see `endpoint`."""

FAST_KEEPALIVE: Options = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""For a `Channel` whose servers all have `SERVER_FAST_KEEPALIVE`: a peer that froze or was cut off is noticed in 14 s.

Without `ping_timeout_ms` gRPC waits a minute for the answer to a ping, and without `max_pings_without_data` it pings a
connection on which nothing else happens only once a minute.
"""

SERVER_FAST_KEEPALIVE: Options = (
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
"""For `grpc.aio.server`: let clients ping as `FAST_KEEPALIVE` does, instead of closing on them for too many pings."""


def with_defaults(options: Iterable[Sequence[Any]]) -> Options:
    """The defaults, replaced and completed by `options`.

    Raises:
        ValueError: an option is no pair of a name and a value, or is a service config.
    """
    merged: dict[str, Any] = dict(DEFAULTS)
    for option in options:
        if isinstance(option, str) or len(option) != 2 or not isinstance(option[0], str):
            raise ValueError(f"channel option {option!r}: a pair of a name and a value")
        if option[0] == "grpc.service_config":  # each endpoint's connection would obey it, beside what we do
            raise ValueError("channel option 'grpc.service_config': give it to the channel as service_config")
        merged[option[0]] = option[1]
    return tuple(merged.items())
