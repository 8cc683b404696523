"""The only place that puts the parts of the cache service together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from grpc_registry import Instance, Registry
from shop.cache.v1 import cache_pb2, cache_pb2_grpc
from shop_services.cache.backend import Values
from shop_services.cache.counting import NamespaceCounts
from shop_services.cache.kept import KeptValues
from shop_services.cache.limits import MAX_REQUEST
from shop_services.cache.memory import MemoryValues
from shop_services.cache.namespaces import Namespaces
from shop_services.cache.neighbours import Neighbours
from shop_services.cache.peers import Peers
from shop_services.cache.redis import RedisValues
from shop_services.cache.servicer import CacheServicer
from shop_services.cache.shards import Shards
from shop_services.cache.share import Share
from shop_services.caching.direct import direct_channel
from shop_services.caching.ring import SERVICE, ring_channel
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.outgoing import OutgoingChannel
from shop_services.runtime.settings import SettingError, Settings
from shop_services.runtime.tls import client_tls, tls_files

NAME = SERVICE

MEET_SECONDS = 1.0
"""How long an instance waits at its start to be connected to the others, so that it knows whose a key is when asked."""


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The cache service: in the Redis of CACHE_URL if there is one, else in the memory of all that `registry` knows."""
    namespaces = Namespaces.parse(
        settings.cache_namespaces, max_entries=settings.cache_max_entries, max_bytes=settings.cache_max_bytes
    )
    authority = Authority.open(settings, NAME)
    neighbours = Neighbours(registry, settings.instance_id)
    async with AsyncExitStack() as stack:
        place: RedisValues | MemoryValues
        local: Values
        shared: Values
        if settings.cache_url:
            namespaces = namespaces.kept_elsewhere()
            local = shared = place = await _redis(stack, settings, namespaces)
        else:
            place = MemoryValues(namespaces.values(), steady_clock())
            local, shared = await _sharded(stack, settings, authority, neighbours, place)
        servicer = CacheServicer(namespaces, local, settings.instance_id, shared=shared)
        service = cache_pb2.DESCRIPTOR.services_by_name["CacheService"].full_name
        add = partial(cache_pb2_grpc.add_CacheServiceServicer_to_server, servicer)
        counts = NamespaceCounts(place.counts)
        yield App(
            NAME,
            {service: add},
            collectors=[counts],
            registering=neighbours.registering,
            authority=authority,
            max_request=MAX_REQUEST,
        )


def steady_clock() -> Callable[[], int]:
    """A clock of nanoseconds since the Unix epoch that goes on evenly when the system's clock is set.

    A value then lives as long as it was meant to; only its `expire_time` is told by the clock of the process's start.
    """
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: time.monotonic_ns() + offset


async def _sharded(
    stack: AsyncExitStack, settings: Settings, authority: Authority, neighbours: Neighbours, memory: MemoryValues
) -> tuple[KeptValues, Shards]:
    """What this instance keeps, and what all do together."""
    tls = tls_files(settings, NAME, SERVICE)
    channel = await stack.enter_async_context(ring_channel(neighbours, retries=False, tls=tls))
    # The lease is renewed every third of its time, so it is sure to last for the rest.
    patience = settings.lease_ttl * 2 / 3
    share = Share(
        settings.instance_id, neighbours, channel, lambda: memory.version, patience=patience, clock=time.monotonic
    )
    local = KeptValues(memory, share)
    await stack.enter_async_context(local.handing_over())
    await neighbours.meet(channel, MEET_SECONDS)
    credentials = authority.credentials_for(SERVICE)

    def direct(instance: Instance) -> OutgoingChannel:
        return OutgoingChannel(direct_channel(instance, tls), credentials=credentials)

    peers = Peers(OutgoingChannel(channel, credentials=credentials), direct=direct)
    return local, Shards(share, local, peers, neighbours)


async def _redis(stack: AsyncExitStack, settings: Settings, namespaces: Namespaces) -> RedisValues:
    tls = client_tls(settings, NAME)
    try:
        values = RedisValues(settings.cache_url, namespaces, tls=tls)
    except ValueError:  # its message may quote the URL, which may hold a password
        raise SettingError("CACHE_URL", "must be scheme://[user:password@]host[:port][/database]") from None
    stack.push_async_callback(values.close)
    return values
