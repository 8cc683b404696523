"""Connections to a Redis or Valkey, for the two that speak to one: `caching.redis` and the cache service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from shop_services.runtime.tls import ClientTls


def redis_pool(url: str, *, connections: int, timeout: float, tls: ClientTls | None = None) -> BlockingConnectionPool:
    """A pool of so many connections at most; whatever is done with one fails after `timeout` seconds, and is not
    repeated.

    `url`: `redis://`, `rediss://` (TLS), `unix://`, or the same with `valkey`. With `tls` an encrypted connection shows
    that certificate, and accepts those of its authority for the host of the URL.

    Raises:
        ValueError: the URL cannot be used.
    """
    url = re.sub(r"^valkey(s?)://", r"redis\1://", url)
    secured: dict[str, Any] = {}
    if tls is not None and url.startswith("rediss://"):
        # The client's own class for it would read the files once.
        url = url.replace("rediss://", "redis://", 1)
        secured = {"connection_class": _SecureConnection, "tls": tls}
    return BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **secured,
    )


class _SecureConnection(Connection):
    """Asks for the files of the moment each time that it connects."""

    def __init__(self, *, tls: ClientTls, **settings: Any) -> None:
        super().__init__(**settings)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls.context()}
