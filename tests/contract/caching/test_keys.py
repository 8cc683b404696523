"""Keys are any text of 1 to 1,024 bytes; namespaces keep them apart."""

from __future__ import annotations

import pytest

from shop_services.caching.backend import Backend
from shop_services.caching.errors import CacheError, InvalidKey, ValueTooLarge
from tests.contract.caching.conftest import World

FIT = ["k", " ", "a b\n\t", "*?[a-z]^\\", "a:b/c", "ключ", "🙂" * 256, "x" * 1024, "{tag}", "%00"]

UNFIT = ["", "x" * 1025, "é" * 513, "🙂" * 257, "\ud800", 5, None, b"bytes"]


@pytest.mark.parametrize("key", FIT)
async def test_any_short_text_is_a_key(cache: Backend, key: str) -> None:
    """It is told from all others."""
    await cache.set(key, "value")
    await cache.multi_set([("other", "other"), ("x", "x"), (key[:-1] or "y", "shorter")])
    assert await cache.get(key) == "value"
    assert await cache.delete(key) == 1


async def test_a_zero_byte_is_kept_or_refused(world: World, cache: Backend) -> None:
    """A cache that cannot carry it says so; in the others it is a character as any."""
    if world.any_text:
        await cache.set("a\0b", "value")
        assert (await cache.get("a\0b"), await cache.get("a")) == ("value", None)
    else:
        with pytest.raises(InvalidKey, match="NUL"):
            await cache.set("a\0b", "value")


@pytest.mark.parametrize("key", UNFIT)
async def test_anything_else_is_named(cache: Backend, key: str) -> None:
    """Every command refuses it with what it was and what is allowed, without repeating a long one."""
    commands = [
        cache.get(key),
        cache.get_or_miss(key),
        cache.multi_get([key]),
        cache.multi_get_or_miss(["k", key]),
        cache.set(key, 1),
        cache.multi_set([("k", 1), (key, 1)]),
        cache.add(key, 1),
        cache.delete(key),
        cache.exists(key),
        cache.increment(key),
        cache.expire(key, 1),
    ]
    for command in commands:
        with pytest.raises(InvalidKey, match=r"key .*(at most 1,024|a str|half a character)") as raised:
            await command
        assert len(str(raised.value)) < 1000
    assert await cache.exists("k") is False


async def test_namespaces_keep_keys_apart(world: World) -> None:
    """A key in one says nothing of the same key in another, and clearing one leaves the others."""
    cache = world.cache(namespace="one")
    for space in (None, "two", "one2", "on"):
        await cache.set("k", space, namespace=space)
    assert [await cache.get("k", namespace=space) for space in ("one", "two", "one2", "on")] == [
        None,
        "two",
        "one2",
        "on",
    ]
    assert await cache.exists("k") is True
    assert await cache.clear() is True
    assert await cache.exists("k") is False
    await cache.clear(namespace="on")
    assert [await cache.exists("k", namespace=space) for space in ("on", "two", "one2")] == [False, True, True]


async def test_every_command_takes_a_namespace(world: World) -> None:
    """It is in place of the cache's own."""
    cache = world.cache(namespace="one")
    await cache.multi_set([("a", 1)], namespace="two")
    await cache.add("b", 2, namespace="two")
    await cache.increment("c", namespace="two")
    await cache.set("d", 4, namespace="two")
    await cache.expire("d", 100, namespace="two")
    assert await cache.multi_get(["a", "b", "c", "d"], namespace="two") == [1, 2, 1, 4]
    assert await cache.multi_get(["a", "b", "c", "d"]) == [None] * 4
    assert await cache.delete("a", namespace="two") == 1


async def test_a_namespace_is_no_pattern(world: World) -> None:
    """What other programs understand as a pattern is clear text here."""
    if not world.any_text:
        pytest.skip("its namespaces are declared, by names without such signs")
    cache = world.cache(namespace="a*")
    await cache.set("k", 1)
    for space in ("ab", "a*b", "a?", "[a]", "a\\"):
        await cache.set("k", 1, namespace=space)
    await cache.clear()
    await cache.clear(namespace="a?")
    await cache.clear(namespace="[a]")
    await cache.clear(namespace="a\\")
    left = [space for space in ("a*", "ab", "a*b", "a?", "[a]", "a\\") if await cache.exists("k", namespace=space)]
    assert left == ["ab", "a*b"]


async def test_clear_takes_a_namespace_of_any_size(world: World) -> None:
    """All of 900 values go, and are counted."""
    cache = world.cache(namespace="many")
    await cache.multi_set([(f"k{i}", i) for i in range(900)])
    await cache.clear()
    assert await cache.multi_get([f"k{i}" for i in range(900)]) == [None] * 900
    assert cache.counts().deletes == 900


@pytest.mark.parametrize("namespace", ["", "a:b", "x" * 129, 5, "\udfff"])
async def test_a_namespace_that_none_should_be_is_named(world: World, namespace: str) -> None:
    """When the cache is made and in a call."""
    with pytest.raises(CacheError, match="namespace"):
        world.cache(namespace=namespace)
    cache = world.cache()
    with pytest.raises(CacheError, match="namespace"):
        await cache.get("k", namespace=namespace)
    with pytest.raises(CacheError, match="namespace"):
        await cache.clear(namespace=namespace)


async def test_a_value_over_the_limit_is_named(world: World) -> None:
    """The error has its key, its size and the limit; what was there stays."""
    cache = world.cache(max_value=100)
    await cache.set("some key", "small")
    for command in (
        cache.set("some key", "x" * 200),
        cache.add("new", "x" * 200),
        cache.multi_set([("new", "small"), ("some key", "x" * 200)]),
    ):
        with pytest.raises(ValueTooLarge, match=r"'(some key|new)': 20\d bytes; a value has at most 100"):
            await command
    assert await cache.get("some key") == "small"
    assert await cache.exists("new") is False
