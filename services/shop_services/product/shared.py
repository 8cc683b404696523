"""The cache that all instances of the product service share: Redis if there is one, else the cache service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpc_registry import Registry
from shop_services.caching.backend import Backend, BytesSerializer
from shop_services.caching.redis import RedisCache
from shop_services.caching.ring import SERVICE, ring_channel
from shop_services.caching.service import ServiceCache
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import client_tls, tls_files

NAMESPACE = "catalog"
"""Where the copies live in it."""


@asynccontextmanager
async def shared_cache(settings: Settings, registry: Registry, authority: Authority) -> AsyncIterator[Backend]:
    """The shared cache. It need not be there: whoever asks it finds out."""
    timeout = settings.cache_timeout
    if not settings.cache_url:
        credentials = authority.credentials_for(SERVICE)
        async with ring_channel(registry, tls=tls_files(settings, authority.name, SERVICE)) as channel:
            yield ServiceCache(
                channel, NAMESPACE, serializer=BytesSerializer(), timeout=timeout, credentials=credentials
            )
        return
    cache = RedisCache(
        settings.cache_url,
        namespace=NAMESPACE,
        serializer=BytesSerializer(),
        timeout=timeout,
        tls=client_tls(settings, authority.name),
    )
    try:
        yield cache
    finally:
        await cache.close()
