"""What is written for aiocache works: its plugins, its locks, its timeout in a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock  # type: ignore[import-untyped]
from aiocache.plugins import BasePlugin, HitMissRatioPlugin, TimingPlugin  # type: ignore[import-untyped]

from shop_services.caching.backend import Backend
from tests.contract.caching.conftest import World


class Listener(BasePlugin):  # type: ignore[misc]
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    async def pre_set(self, cache: object, key: str, value: object, **kwargs: object) -> None:
        self.heard.append(("pre_set", key, value))

    async def post_get(self, cache: object, key: str, *args: object, ret: object = None, **kwargs: object) -> None:
        self.heard.append(("post_get", key, ret))

    async def post_clear(self, cache: object, ret: object = None, **kwargs: object) -> None:
        self.heard.append(("post_clear", ret))


async def test_plugins_are_called(world: World) -> None:
    """Before and after a command, with its arguments and what it returned."""
    listener = Listener()
    cache = world.cache(plugins=[listener])
    await cache.set("k", 1)
    await cache.get("k")
    await cache.get("missing", 7)
    await cache.clear()
    expected = [("pre_set", "k", 1), ("post_get", "k", 1), ("post_get", "missing", 7), ("post_clear", True)]
    assert listener.heard == expected


async def test_plugins_can_come_later(cache: Backend) -> None:
    """They are called from when they are there."""
    await cache.set("k", 1)
    cache.plugins = [listener := Listener()]
    await cache.get("k")
    assert listener.heard == [("post_get", "k", 1)]


async def test_aiocaches_own_plugins_work(world: World) -> None:
    """Ratio and times are where aiocache puts them."""
    cache: Any = world.cache(plugins=[HitMissRatioPlugin(), TimingPlugin()])
    await cache.set("k", 1)
    await cache.get("k")
    await cache.get("missing")
    await cache.multi_get(["k", "missing"])
    assert cache.hit_miss_ratio == {"total": 4, "hits": 2, "hit_ratio": 0.5}
    assert cache.profiling["get_total"] == 2


async def test_an_optimistic_lock_sees_a_change(cache: Backend) -> None:
    """It writes if the value is what it was when the lock was taken, and raises if not."""
    await cache.set("k", "old")
    async with OptimisticLock(cache, "k") as lock:
        await lock.cas("new")
    assert await cache.get("k") == "new"
    async with OptimisticLock(cache, "k") as lock:
        await cache.set("k", "between")
        with pytest.raises(OptimisticLockError):
            await lock.cas("lost")
    assert await cache.get("k") == "between"


async def test_an_optimistic_lock_writes_with_a_ttl(world: World) -> None:
    """The value of a successful write ends."""
    cache = world.cache()
    await cache.set("k", "old")
    async with OptimisticLock(cache, "k") as lock:
        await lock.cas("new", ttl=0.05)
    await world.wait(0.05)
    assert await cache.exists("k") is False


async def test_a_red_lock_admits_one_at_a_time(cache: Backend) -> None:
    """The second enters when the first has left."""
    happened: list[str] = []

    async def second() -> None:
        async with RedLock(cache, "k", lease=5):
            happened.append("second enters")

    async with RedLock(cache, "k", lease=5):
        waiting = asyncio.create_task(second())
        await cache.exists("k")  # a way there and back, as the second's question takes
        await asyncio.sleep(0)
        happened.append("first leaves")
    await waiting
    assert happened == ["first leaves", "second enters"]


async def test_a_red_lock_is_released_by_its_holder_only(cache: Backend) -> None:
    """A token that is not the one inside releases nothing."""
    key = cache.build_key("k-lock")
    await cache._add(key, "mine", ttl=5)
    assert await cache._redlock_release(key, "yours") == 0
    assert await cache._redlock_release(key, "mine") == 1


async def test_a_call_takes_a_timeout(cache: Backend) -> None:
    """In seconds, or none."""
    assert await cache.set("k", 1, timeout=5) is True  # type: ignore[call-arg]
    assert await cache.get("k", timeout=0) == 1  # type: ignore[call-arg]
    assert await cache.clear(timeout=None) is True  # type: ignore[call-arg]


async def test_a_connection_of_aiocaches_kind_works(cache: Backend) -> None:
    """`get_connection` gives an object with the same commands."""
    async with cache.get_connection() as connection:
        await connection.set("k", 1)
        assert await connection.get("k") == 1
