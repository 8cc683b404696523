"""The memory cache beyond the contract: objects as they are, limits of bytes, and the short way past no plugins."""

from __future__ import annotations

import pytest
from aiocache.plugins import BasePlugin  # type: ignore[import-untyped]
from aiocache.serializers import JsonSerializer  # type: ignore[import-untyped]

from shop_services.caching.backend import BytesSerializer
from shop_services.caching.counts import Counts
from shop_services.caching.errors import InvalidKey, InvalidTtl, ValueTooLarge
from shop_services.caching.memory import MemoryCache


async def test_an_object_is_returned_itself() -> None:
    """No copy is made of it."""
    cache = MemoryCache(max_entries=1)
    value = object()
    await cache.set("k", value)
    assert await cache.get("k") is value


async def test_bytes_of_keys_and_values_are_limited() -> None:
    """A key counts as UTF-8, a value as its own bytes, and what has no bytes is refused."""
    cache = MemoryCache(max_entries=100, max_bytes=10)
    await cache.set("é", b"123")
    await cache.set("k", "é")
    assert cache.counts().bytes == 8
    await cache.set("l", b"12")
    assert cache.counts() == Counts(sets=3, evictions=1, expirations=0, entries=2, bytes=6)
    with pytest.raises(ValueTooLarge, match="11 bytes; the cache has at most 10"):
        await cache.set("k", b"1234567890")
    with pytest.raises(TypeError, match="'k': bytes or str, not int"):
        await cache.set("k", 5)
    assert await cache.get("k") == "é"


async def test_a_measure_of_ones_own() -> None:
    """`size_of` says what an object takes."""
    cache = MemoryCache(max_entries=100, max_bytes=10, size_of=lambda key, value: sum(value))
    await cache.set("k", (1, 2, 3))
    assert cache.counts().bytes == 6


@pytest.mark.parametrize("options", [{}, {"namespace": "n"}, {"serializer": JsonSerializer()}, {"max_value": 100}])
async def test_the_short_way_does_the_same(options: dict[str, object]) -> None:
    """With or without a reason for the long way, arguments are checked and defaults hold."""
    now = 0.0
    cache = MemoryCache(max_entries=10, ttl=5, clock=lambda: now, **options)  # type: ignore[arg-type]
    await cache.set("default", 1)
    await cache.set("short", 1, ttl=2)
    await cache.set("endless", None, ttl=None)
    with pytest.raises(InvalidTtl):
        await cache.set("k", 1, ttl=0)
    with pytest.raises(InvalidKey):
        await cache.set("", 1)
    now = 2
    assert [await cache.get(key, "none") for key in ("default", "short", "endless")] == [1, "none", None]
    now = 5
    assert [await cache.get(key, "none") for key in ("default", "endless")] == ["none", None]


class Arguments(BasePlugin):  # type: ignore[misc]
    """Notes what it is called with."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[object, ...], dict[str, object]]] = []

    async def pre_get(self, cache: object, *args: object, **kwargs: object) -> None:
        self.seen.append((args, kwargs))

    async def pre_set(self, cache: object, *args: object, **kwargs: object) -> None:
        self.seen.append((args, kwargs))


async def test_a_plugin_sees_what_was_given() -> None:
    """No argument that the caller left out."""
    plugin = Arguments()
    cache = MemoryCache(max_entries=10, plugins=[plugin])
    await cache.set("k", 1)
    await cache.set("k", 1, ttl=None)
    await cache.get("k")
    await cache.get("k", default=2, namespace="n")
    assert plugin.seen == [
        (("k", 1), {}),
        (("k", 1), {"ttl": None}),
        (("k",), {}),
        (("k",), {"default": 2, "namespace": "n"}),
    ]


async def test_numbers_are_numbers_in_any_form() -> None:
    """Text and bytes of a whole number are incremented, as Redis does it, and stay in the serializer's form."""
    plain = MemoryCache(max_entries=10)
    await plain.set("text", "41")
    await plain.set("bytes", b"41")
    assert [await plain.increment("text"), await plain.increment("bytes")] == [42, 42]
    with pytest.raises(TypeError, match=r"delta 1\.5"):
        await plain.increment("text", 1.5)  # type: ignore[arg-type]


async def test_bytes_stay_bytes() -> None:
    """`BytesSerializer` takes nothing else."""
    cache = MemoryCache(max_entries=1, serializer=BytesSerializer())
    await cache.set("k", b"\xff\0")
    assert await cache.get("k") == b"\xff\0"
    with pytest.raises(TypeError, match="value: bytes, not str"):
        await cache.set("k", "text")


async def test_it_has_no_client_below_it() -> None:
    """`raw` says so."""
    with pytest.raises(NotImplementedError, match="MemoryCache"):
        await MemoryCache(max_entries=1).raw("get", "k")


def test_it_says_what_it_is() -> None:
    """For a log."""
    assert repr(MemoryCache(max_entries=5)) == "<MemoryCache <Bounded lru: 0 of 5 entries>>"
