"""Reads of the catalog by the product service's use case, in this process: with caches, and without any.

They take turns with the same part of the trace, so that each has the same work at nearly the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

import grpc_registry
from shop_services.caching.tiers import ReadCounts
from shop_services.product.caches import Caches, caching
from shop_services.product.domain import Product
from shop_services.product.source import DatabaseReads
from shop_services.product.usecases import Browsing
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.settings import Settings
from shop_services.storage import Database

READERS = 16
"""So many reads are under way at a time."""
OFF = "off"

T = TypeVar("T")

_FILL = 100


@dataclass
class Played:
    """How one way of reading did, in each round."""

    rates: list[float] = field(default_factory=list)
    """Reads a second."""
    local: float | None = None
    """Of all reads, the part that the process' own cache answered."""
    shared: float | None = None
    """The part that the shared one answered."""
    loads: float | None = None
    """Questions to the database ÷ reads."""


async def play(read: Callable[[str], Awaitable[object]], ids: Sequence[str], readers: int = READERS) -> float:
    """Read all of these, `readers` at a time. Returns the seconds that it took."""
    rest = iter(ids)

    async def reader() -> None:
        for product_id in rest:
            await read(product_id)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(readers):
            group.create_task(reader())
    return time.perf_counter() - start


@contextlib.asynccontextmanager
async def cached(settings: Settings, database: Database) -> AsyncIterator[Caches]:
    """The caches of a product service with these settings."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(grpc_registry.connect(settings.registry_url))
        yield await stack.enter_async_context(
            caching(settings, registry, Authority.open(settings, "product"), database)
        )


async def compare(
    database: Database,
    ways: Mapping[str, Settings],
    filled: Mapping[str, Sequence[str]],
    ids: Sequence[str],
    *,
    rounds: int,
    warm: int,
) -> dict[str, Played]:
    """Read `ids` in `rounds` parts in each of these ways, and without caches, after the first `warm` of them.

    Before, all that is `filled` in of a way has been read by it once.
    """
    played = {name: Played() for name in (OFF, *ways)}
    async with AsyncExitStack() as stack:
        reads: dict[str, Callable[[str], Awaitable[Product]]] = {OFF: Browsing(DatabaseReads(database)).get}
        caches: dict[str, Caches] = {}
        for name, settings in ways.items():
            caches[name] = await stack.enter_async_context(cached(settings, database))
            reads[name] = Browsing(caches[name].reads).get
            await _fill(caches[name], filled.get(name, ()))
            await play(reads[name], ids[:warm])
        before = {name: those.products.counts() for name, those in caches.items()}
        part = (len(ids) - warm) // rounds
        for index in range(rounds):
            start = warm + index * part
            for name, read in in_turn(reads, index):
                played[name].rates.append(part / await play(read, ids[start : start + part]))
        for name, those in caches.items():
            _count(played[name], before[name], those.products.counts(), rounds * part)
    return played


def in_turn(ways: Mapping[str, T], turn: int) -> list[tuple[str, T]]:
    """All of them, in the other direction each time."""
    return list(ways.items())[:: -1 if turn % 2 else 1]


async def _fill(caches: Caches, ids: Sequence[str]) -> None:
    """Read all of these once."""
    for start in range(0, len(ids), _FILL):
        await caches.reads.products(ids[start : start + _FILL])


def _count(played: Played, before: ReadCounts, after: ReadCounts, reads: int) -> None:
    played.local = (after.local.hits - before.local.hits) / reads
    played.shared = (after.shared.hits - before.shared.hits) / reads
    played.loads = (after.loads - before.loads) / reads
