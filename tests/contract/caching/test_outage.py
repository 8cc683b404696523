"""A shared cache that is away or frozen is `CacheUnavailable`, soon; and works again when it is back.

Another shared kind joins with a branch in `fragile`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import pytest

from shop_services.caching.backend import Backend
from shop_services.caching.errors import CacheUnavailable
from shop_services.caching.redis import RedisCache
from tests.elapsed import measured
from tests.servers import Valkey

# What has to succeed has that long, on a machine that may stand still for as long as three seconds.
TIMEOUT = 4.0

# What has to fail because nobody answers has that long, and whatever succeeds later is `answered`.
IMPATIENCE = 0.3

# What a busy machine may add to a timeout before the test calls it late. Calls that queued up would need more.
SLACK = 2.0


class Fragile:
    """A cache, the server that has its values, and another cache there, which waits for less long."""

    def __init__(self, cache: Backend, impatient: Backend, server: Valkey) -> None:
        self.cache = cache
        self.impatient = impatient
        self.server = server

    async def kill(self) -> None:
        await asyncio.to_thread(self.server.kill)  # the loop goes on, as it does in life, and sees connections end

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def until_up(self) -> None:
        """Return when the cache answers again."""
        await answered(lambda: self.cache.exists("k"))


async def answered(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What the cache says, asked until it does."""
    async with asyncio.timeout(30):
        while True:
            with suppress(CacheUnavailable):
                return await ask()
            await asyncio.sleep(0.01)


@pytest.fixture(params=["redis"])
async def fragile(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fragile]:
    server = Valkey(tmp_path_factory.mktemp("fragile"))
    try:
        server.start()
        opened = partial(RedisCache, server.url, namespace="fragile", connections=4)
        async with opened(timeout=TIMEOUT) as cache, opened(timeout=IMPATIENCE) as impatient:
            yield Fragile(cache, impatient, server)
    finally:
        server.kill()


async def fails(cache: Backend, timeout: float = TIMEOUT) -> None:
    """Every command raises `CacheUnavailable` within the timeout, alone and many at a time."""
    commands = (
        lambda: cache.get("k"),
        lambda: cache.get_or_miss("k"),
        lambda: cache.multi_get(["k", "l"]),
        lambda: cache.multi_get_or_miss(["k"]),
        lambda: cache.set("k", 1),
        lambda: cache.multi_set([("k", 1), ("l", 2)]),
        lambda: cache.add("k", 1),
        lambda: cache.delete("k"),
        lambda: cache.exists("k"),
        lambda: cache.increment("k"),
        lambda: cache.expire("k", 1),
        lambda: cache.expire("k", None),
        lambda: cache.clear(),
        lambda: cache._add("k", 1),
        lambda: cache._redlock_release("k", "token"),
    )

    async def refused(number: int) -> None:
        with pytest.raises(CacheUnavailable):
            await commands[number % len(commands)]()

    async with measured() as elapsed:
        await asyncio.gather(*(refused(i) for i in range(4 * len(commands))))
        assert elapsed.seconds < timeout + SLACK
    async with measured() as elapsed:
        await refused(0)
        assert elapsed.seconds < timeout + SLACK


async def test_a_frozen_server_is_unavailable(fragile: Fragile) -> None:
    """Its connections stay open and nobody answers: no call waits for longer than the timeout."""
    cache = fragile.impatient
    await answered(lambda: cache.set("k", 1))
    fragile.server.pause()
    await fails(cache, IMPATIENCE)
    fragile.server.resume()
    await answered(lambda: cache.exists("k"))
    assert await answered(lambda: cache.set("k", 2)) is True
    assert await answered(lambda: cache.get("k")) == 2


async def test_a_killed_server_is_unavailable(fragile: Fragile) -> None:
    """When it is back it is empty, and the first call to it succeeds: no dead connection is tried."""
    await asyncio.gather(*(fragile.cache.set("k", i) for i in range(20)))  # more connections than one
    await fragile.kill()
    await fails(fragile.cache)
    await fragile.start()
    assert await asyncio.gather(*(fragile.cache.get("k", default="empty") for _ in range(20))) == ["empty"] * 20


async def test_a_restart_between_calls_is_not_noticed(fragile: Fragile) -> None:
    """The connections that were idle meanwhile are replaced."""
    await asyncio.gather(*(fragile.cache.set("k", i) for i in range(20)))
    await fragile.kill()
    await fragile.start()
    assert await asyncio.gather(*(fragile.cache.exists("k") for _ in range(20))) == [False] * 20


async def test_a_cache_is_made_without_a_server(fragile: Fragile) -> None:
    """One that is away at first is used as soon as it is there."""
    await fragile.kill()
    async with RedisCache(fragile.server.url, namespace="fragile", timeout=TIMEOUT) as cache:
        await fails(cache)
        await fragile.start()
        assert await cache.set("k", 1) is True


async def test_a_late_answer_is_nobody_elses(fragile: Fragile) -> None:
    """After a timeout each call still gets the value of its own key."""
    cache = fragile.impatient
    await fragile.cache.multi_set([(f"k{i}", i) for i in range(50)])
    await answered(lambda: cache.exists("k"))
    fragile.server.pause()
    await asyncio.gather(*(cache.get(f"k{i}") for i in range(50)), return_exceptions=True)
    fragile.server.resume()
    await answered(lambda: cache.exists("k"))
    for _ in range(3):
        found = await asyncio.gather(*(answered(partial(cache.get, f"k{i}")) for i in range(50)))
        assert found == list(range(50))


async def test_cancelled_calls_keep_no_connection(fragile: Fragile) -> None:
    """Five hundred calls that are given up at any moment leave all connections to others."""
    rng = Random(5)
    await fragile.cache.set("k", 1)

    async def given_up() -> None:
        call = asyncio.ensure_future(fragile.cache.get("k"))
        await asyncio.sleep(rng.random() / 200)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    for _ in range(10):
        await asyncio.gather(*(given_up() for _ in range(50)))
    await fragile.until_up()
    assert await asyncio.gather(*(fragile.cache.get("k") for _ in range(16))) == [1] * 16


async def test_a_full_server_is_unavailable(fragile: Fragile) -> None:
    """What it refuses is no value, and reads go on."""
    await fragile.cache.set("k", 1)
    await fragile.cache.raw("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(CacheUnavailable, match="maxmemory"):
        await fragile.cache.set("l", 2)
    with pytest.raises(CacheUnavailable, match="maxmemory"):
        await fragile.cache.multi_set([("l", 2), ("m", 3)])
    with pytest.raises(CacheUnavailable, match="maxmemory"):
        await fragile.cache.increment("n")
    assert await fragile.cache.get("k") == 1
    assert fragile.cache.counts().sets == 1
