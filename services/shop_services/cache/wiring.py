"""The only place that puts the parts of the cache service together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from grpc_registry import Registry
from shop.cache.v1 import cache_pb2, cache_pb2_grpc
from shop_services.cache.domain import Limits
from shop_services.cache.servicer import CacheServicer
from shop_services.cache.store import Store
from shop_services.runtime.app import App
from shop_services.runtime.settings import Settings

NAME = "cache"
MAX_NAMESPACES = 1000
"""How many namespaces have counts and values at a time."""


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The cache service; it calls no other, so it has no use for `registry`."""
    limits = Limits(entries=settings.cache_max_entries, bytes=settings.cache_max_bytes, namespaces=MAX_NAMESPACES)
    servicer = CacheServicer(Store(limits, steady_clock()), settings.instance_id)
    service = cache_pb2.DESCRIPTOR.services_by_name["CacheService"].full_name
    yield App(NAME, {service: partial(cache_pb2_grpc.add_CacheServiceServicer_to_server, servicer)})


def steady_clock() -> Callable[[], int]:
    """A clock of nanoseconds since the Unix epoch that goes on evenly when the system's clock is set.

    A value then lives as long as it was meant to; only its `expire_time` is told by the clock of the process's start.
    """
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: time.monotonic_ns() + offset
