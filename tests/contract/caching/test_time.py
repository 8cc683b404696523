"""A value ends when its time is over, whatever was there before under its key."""

from __future__ import annotations

import pytest

from shop_services.caching.backend import MISS, Backend
from shop_services.caching.errors import InvalidTtl
from tests.contract.caching.conftest import World

SHORT = 0.05
LONG = 300

# For a value that a test must do something with before it ends, on a machine that may stand still meanwhile.
AMPLE = 4.0


async def test_a_value_ends_with_its_ttl(world: World) -> None:
    """It is a miss then, and does not exist; the others stay."""
    cache = world.cache()
    await cache.set("short", 1, ttl=SHORT)
    await cache.multi_set([("short too", 2)], ttl=SHORT)
    await cache.add("added", 3, ttl=SHORT)
    await cache.set("long", 4, ttl=LONG)
    await cache.set("endless", 5)
    await world.wait(SHORT)
    assert await cache.multi_get_or_miss(["short", "short too", "added"]) == [MISS, MISS, MISS]
    assert await cache.exists("short") is False
    assert await cache.delete("short too") == 0
    assert await cache.multi_get(["long", "endless"]) == [4, 5]


async def test_the_cache_has_a_ttl_of_its_own(world: World) -> None:
    """It is for calls that leave it out; None means no end."""
    cache = world.cache(ttl=SHORT)
    await cache.set("own", 1)
    await cache.multi_set([("own too", 1)])
    await cache.add("added", 1)
    await cache.set("long", 2, ttl=LONG)
    await cache.set("endless", 3, ttl=None)
    await world.wait(SHORT)
    assert await cache.multi_get(["own", "own too", "added", "long", "endless"]) == [None, None, None, 2, 3]


async def test_a_new_value_ends_the_old_ones_time(world: World) -> None:
    """Nothing of the old value's TTL is left to end the new one."""
    cache = world.cache()
    await cache.set("k", 1, ttl=SHORT)
    await cache.set("k", 2)
    await cache.set("other", 1, ttl=SHORT)
    await cache.delete("other")
    await cache.set("other", 2)
    await world.wait(SHORT)
    assert await cache.multi_get(["k", "other"]) == [2, 2]


async def test_clear_leaves_no_timer(world: World) -> None:
    """What is set after a clear is not ended by what was there before it."""
    cache = world.cache()
    await cache.set("k", 1, ttl=SHORT)
    await cache.clear()
    await cache.set("k", 2)
    await world.wait(SHORT)
    assert await cache.get("k") == 2


async def test_there_is_room_for_an_add_when_the_time_is_over(world: World) -> None:
    """An ended value is none: this is how a lock of a dead process ends."""
    cache = world.cache()
    await cache.add("lock", "mine", ttl=SHORT)
    await world.wait(SHORT)
    assert await cache.add("lock", "yours", ttl=LONG) is True
    assert await cache.get("lock") == "yours"


async def test_expire_sets_an_end(world: World) -> None:
    """Also where there was none; and says whether there is a value."""
    cache = world.cache()
    await cache.multi_set([("a", 1), ("b", 2)])
    assert await cache.expire("a", SHORT) is True
    assert await cache.expire("missing", SHORT) is False
    await world.wait(SHORT)
    assert await cache.multi_get(["a", "b"]) == [None, 2]
    assert await cache.expire("a", LONG) is False


async def test_expire_takes_the_end_away(world: World) -> None:
    """None is no end, whether there was one or not."""
    cache = world.cache()
    await cache.set("a", 1, ttl=AMPLE)
    await cache.set("b", 2)
    assert [await cache.expire(key, None) for key in ("a", "b", "missing")] == [True, True, False]
    await world.wait(AMPLE)
    assert await cache.multi_get(["a", "b"]) == [1, 2]


async def test_an_increment_keeps_the_end(world: World) -> None:
    """A counter ends when it would have; one that it begins has no end."""
    cache = world.cache(ttl=AMPLE)
    await cache.set("k", 1)
    await cache.increment("k")
    await cache.increment("new")
    await world.wait(AMPLE)
    assert await cache.multi_get(["k", "new"]) == [None, 1]


@pytest.mark.parametrize("ttl", [0, -1, -0.001, 365 * 86_400 + 1, 10**400, float("nan"), float("inf"), True, "5"])
async def test_a_ttl_that_none_should_be_is_named(cache: Backend, ttl: float) -> None:
    """Zero, negative, huge, or no number: the error says what it was and what is allowed, and nothing was changed."""
    await cache.set("k", 1)
    named = f"ttl {ttl!r:.20}.*more than 0 and at most 31,536,000"
    with pytest.raises(InvalidTtl, match=named):
        await cache.set("k", 2, ttl=ttl)
    with pytest.raises(InvalidTtl, match=named):
        await cache.multi_set([("k", 2)], ttl=ttl)
    with pytest.raises(InvalidTtl, match=named):
        await cache.add("new", 2, ttl=ttl)
    with pytest.raises(InvalidTtl, match=named):
        await cache.expire("k", ttl)
    assert await cache.multi_get(["k", "new"]) == [1, None]


async def test_a_cache_without_a_fit_ttl_is_not_made(world: World) -> None:
    """Its own is checked when it is made."""
    with pytest.raises(InvalidTtl, match="ttl 0: seconds"):
        world.cache(ttl=0)


async def test_a_year_and_a_moment_are_ttls(cache: Backend) -> None:
    """The least and the most that is allowed."""
    await cache.set("year", 1, ttl=365 * 86_400)
    await cache.set("moment", 1, ttl=1e-9)
    assert await cache.get("year") == 1
