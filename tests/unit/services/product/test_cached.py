"""The consistency of the catalog's caches, over a database in memory and with every step in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from shop_services.caching.backend import BytesSerializer
from shop_services.caching.memory import MemoryCache
from shop_services.product.domain import NewProduct
from shop_services.product.position import Position
from shop_services.product.reads import Answer
from shop_services.runtime.errors import Aborted, NotFound, Unavailable
from shop_services.runtime.money import Money
from tests.unit.services.product.shelf import BOUND, Clock, Instance, Shelf, instances

_MUTATION: Any = None  # the shelf asks nothing of it


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def shelf() -> Shelf:
    shelf = Shelf()
    shelf.create_one("pen", name="Pen", category="office")
    shelf.create_one("cup", name="Cup", category="kitchen")
    return shelf


@pytest.fixture
def shared(clock: Clock) -> MemoryCache:
    return MemoryCache(max_entries=1000, serializer=BytesSerializer(), clock=clock)


@pytest.fixture(params=["aside", "through"])
async def one(
    request: pytest.FixtureRequest, shelf: Shelf, clock: Clock, shared: MemoryCache
) -> AsyncIterator[Instance]:
    """An instance in each mode."""
    async with instances(shelf, clock, shared, through=request.param == "through") as (instance,):
        yield instance


@pytest.fixture(params=["aside", "through"])
async def two(
    request: pytest.FixtureRequest, shelf: Shelf, clock: Clock, shared: MemoryCache
) -> AsyncIterator[list[Instance]]:
    """Two instances in each mode, which share a cache."""
    async with instances(shelf, clock, shared, 2, through=request.param == "through") as both:
        yield both


def _rename(instance: Instance, name: str) -> Awaitable[Answer[Any]]:
    return instance.here(lambda: instance.changes.update("pen", {"name": name}, "", _MUTATION))


def _delete(instance: Instance) -> Awaitable[Answer[Any]]:
    return instance.here(lambda: instance.changes.delete("pen", "", _MUTATION))


async def test_a_product_is_read_from_the_database_once(shelf: Shelf, one: Instance) -> None:
    """As long as nothing changes, one read of it serves all, whether one by one or in batches."""
    for _ in range(5):
        assert await one.name("pen") == "Pen"
        assert (await one.reads.products(["pen"]))["pen"].value == shelf.products_by_id["pen"]
    assert shelf.reads == 1
    found = await one.reads.products(["cup", "pen", "none"])
    assert [copy.value and copy.value.name for copy in found.values()] == ["Cup", "Pen", None]
    assert shelf.reads == 2


async def test_what_was_read_since_the_last_look_is_a_copy_too(shelf: Shelf, one: Instance) -> None:
    """What the database answered after changes that are not known here yet is kept, and used."""
    shelf.update_one("cup", name="Mug")
    assert (await one.name("pen"), await one.name("cup"), await one.ids("office")) == ("Pen", "Mug", ["pen"])
    assert (await one.name("pen"), await one.name("cup"), await one.ids("office")) == ("Pen", "Mug", ["pen"])
    assert shelf.reads == 3


async def test_another_instance_reads_it_from_the_shared_cache(shelf: Shelf, clock: Clock, shared: MemoryCache) -> None:
    """Products, lists, and that there is none, are asked of the database once for all instances."""
    async with instances(shelf, clock, shared, 2) as (one, two):
        for instance in (one, two):
            assert (await instance.name("pen"), await instance.name("none")) == ("Pen", None)
            assert await instance.ids("office") == ["pen"]
            await _stored(shared, 3)
    assert shelf.reads == 3


async def test_read_your_writes_on_the_same_instance(one: Instance) -> None:
    """Each change is seen by the read after it, also in lists, before any look at the log."""
    assert (await one.name("pen"), await one.ids("office"), await one.ids("home")) == ("Pen", ["pen"], [])
    await _rename(one, "Quill")
    assert await one.name("pen") == "Quill"
    await one.here(lambda: one.changes.update("pen", {"category": "home"}, "", _MUTATION))
    assert (await one.ids("office"), await one.ids("home"), await one.ids()) == ([], ["pen"], ["pen", "cup"])
    await one.here(lambda: one.changes.delete("pen", "", _MUTATION))
    assert (await one.name("pen"), await one.ids("home"), await one.ids()) == (None, [], ["cup"])


async def test_a_product_that_was_looked_for_in_vain_is_seen_when_it_is_created(one: Instance) -> None:
    """That there is none is remembered until there is one."""
    assert await one.name("ink") is None
    new = NewProduct("ink", "Ink", "", "office", Money("EUR", 1), 0)
    await one.here(lambda: one.changes.create(new, _MUTATION))
    assert await one.name("ink") == "The ink"


async def test_through_has_the_new_state_without_asking_the_database(
    shelf: Shelf, clock: Clock, shared: MemoryCache
) -> None:
    """After a write-through the next read, here or at another instance that knows of the change, asks no database."""
    async with instances(shelf, clock, shared, 2, through=True) as (one, two):
        await _rename(one, "Quill")
        await two.look()
        assert (await one.name("pen"), await two.name("pen"), shelf.reads) == ("Quill", "Quill", 0)
        await one.here(lambda: one.changes.delete("pen", "", _MUTATION))
        assert (await one.name("pen"), shelf.reads) == (None, 0)


async def test_aside_forgets_the_product(shelf: Shelf, clock: Clock, shared: MemoryCache) -> None:
    """After a change the shared cache has no copy of the product any more."""
    async with instances(shelf, clock, shared) as (one,):
        await one.name("pen")
        await _stored(shared, 1)
        await _rename(one, "Quill")
        assert shared.counts().entries == 0


async def test_another_instance_is_within_the_bound(two: list[Instance], clock: Clock) -> None:
    """Before it looks it may show what was; once it has looked it does not, and after the bound it does not anyway."""
    one, other = two
    assert (await other.name("pen"), await other.ids("office")) == ("Pen", ["pen"])
    await _rename(one, "Quill")
    clock.now += BOUND
    assert await other.name("pen") == "Pen"
    clock.now += 0.001
    assert (await other.name("pen"), await other.ids("office")) == ("Quill", ["pen"])
    await _rename(one, "Biro")
    await other.look()
    assert await other.name("pen") == "Biro"


async def test_with_the_position_another_instance_shows_the_change(two: list[Instance], shelf: Shelf) -> None:
    """Whoever brings the position of a change sees it anywhere, though the instance knows nothing of it yet."""
    one, other = two
    assert (await other.name("pen"), await other.ids("office")) == ("Pen", ["pen"])
    at = (await _rename(one, "Quill")).position
    assert await other.name("pen", at) == "Quill"
    assert (await other.reads.products(["pen"], at))["pen"].value == shelf.products_by_id["pen"]
    moved = await one.here(lambda: one.changes.update("pen", {"category": "home"}, "", _MUTATION))
    assert (await other.ids("office", moved.position), await other.ids("home", moved.position)) == ([], ["pen"])
    assert other.hints == 4


async def test_a_reader_with_a_position_shares_what_is_read_for_it(two: list[Instance], shelf: Shelf) -> None:
    """Where a look finds the change at once, a hundred who bring its position cost the database one read."""
    one, other = two
    at = (await _rename(one, "Quill")).position
    other.alert = True
    reads = shelf.reads
    assert await asyncio.gather(*[other.name("pen", at) for _ in range(100)]) == ["Quill"] * 100
    assert await other.ids("office", at) == await other.ids("office", at) == ["pen"]
    assert (await other.reads.products(["pen", "cup"], at)).keys() == {"pen", "cup"}
    assert shelf.reads - reads <= 3


async def test_who_is_refused_reads_what_is(two: list[Instance], shelf: Shelf, clock: Clock) -> None:
    """After ABORTED for an etag that a copy had, and after NOT_FOUND, the next read does not bring that copy again."""
    one, other = two
    assert await other.name("pen") == "Pen"
    stale = str(shelf.products_by_id["pen"].revision)
    await _rename(one, "Quill")
    assert await other.name("pen") == "Pen"
    with pytest.raises(Aborted):
        await other.changes.update("pen", {"name": "Biro"}, stale, _MUTATION)
    assert (await other.name("pen"), other.hints) == ("Quill", 1)
    shelf.update_one("pen", name="Biro")
    with pytest.raises(Aborted):
        await other.changes.delete("pen", stale, _MUTATION)
    assert (await other.name("pen"), other.hints) == ("Biro", 2)
    await one.here(lambda: one.changes.delete("pen", "", _MUTATION))
    for number, refused in enumerate((other.changes.update("pen", {}, "", _MUTATION), _delete(other)), 3):
        with pytest.raises(NotFound):
            await refused
        assert (await other.name("pen"), other.hints) == (None, number)


async def test_a_reply_that_was_kept_is_followed_by_reads_that_have_it(two: list[Instance]) -> None:
    """Who repeats a request at another instance, and gets the first reply again, reads there what it tells of."""
    one, other = two
    assert await other.name("pen") == "Pen"
    await _rename(one, "Quill")
    await other.here(lambda: other.changes.update("pen", {}, "", _MUTATION))
    assert other.hints == 1  # until it has looked, no copy is good enough
    assert await other.name("pen") == "Quill"


async def test_a_slow_fill_that_lands_after_a_change_is_not_shown(
    shelf: Shelf, two: list[Instance], clock: Clock
) -> None:
    """A reader that was answered before a change, and stores its copy after it, misleads nobody who comes after."""
    one, other = two
    shelf.gate.clear()
    slow = asyncio.create_task(other.name("pen"))
    await asyncio.wait_for(shelf.reading.wait(), 5)
    changing = asyncio.ensure_future(_rename(one, "Quill"))
    await changing
    shelf.gate.set()
    assert await slow == "Pen"  # it was asked before the change
    await asyncio.sleep(0.01)
    assert await one.name("pen") == "Quill"
    await other.look()
    assert await other.name("pen") == "Quill"


async def test_a_reader_does_not_join_a_load_that_began_before_its_own_write(shelf: Shelf, one: Instance) -> None:
    """It gets what it has written, not what the load before it is about to bring."""
    shelf.gate.clear()
    slow = asyncio.create_task(one.name("pen"))
    await asyncio.wait_for(shelf.reading.wait(), 5)
    await _rename(one, "Quill")
    mine = asyncio.create_task(one.name("pen"))
    await asyncio.sleep(0.01)
    shelf.gate.set()
    assert await mine == "Quill"
    assert await slow in ("Pen", "Quill")


async def test_old_shared_copies_are_not_shown(shelf: Shelf, clock: Clock, shared: MemoryCache) -> None:
    """A shared cache that comes back with copies from before a change is believed by nobody who knows of the change."""
    async with instances(shelf, clock, shared, 2) as (one, two):
        assert (await one.name("pen"), await one.name("none"), await one.ids("office")) == ("Pen", None, ["pen"])
        await _stored(shared, 3)
        old = await _contents(shared)
        assert len(old) == 3
        shelf.update_one("pen", name="Quill", category="home")
        shelf.create_one("none")
        await two.look()
        await _restore(shared, old)
        assert (await two.name("pen"), await two.name("none"), await two.ids("office")) == ("Quill", "The none", [])


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[::-1], lambda _: b"{}"])
async def test_garbage_in_the_shared_cache_is_a_miss(
    shelf: Shelf, clock: Clock, shared: MemoryCache, damage: Callable[[bytes], bytes]
) -> None:
    """Whatever the bytes have become, the read is answered by the database."""
    async with instances(shelf, clock, shared, 2) as (one, two):
        assert (await one.name("pen"), await one.ids("office")) == ("Pen", ["pen"])
        await _stored(shared, 2)
        await _restore(shared, {key: damage(data) for key, data in (await _contents(shared)).items()})
        assert (await two.name("pen"), await two.ids("office"), shelf.reads) == ("Pen", ["pen"], 4)


async def test_while_the_database_is_away_reads_fail_after_the_bound(shelf: Shelf, one: Instance, clock: Clock) -> None:
    """Within it copies are shown; then it is not known whether they still hold, and the read fails as the database."""
    assert await one.name("pen") == "Pen"
    shelf.away = True
    clock.now += BOUND
    assert await one.name("pen") == "Pen"
    clock.now += 0.001
    with pytest.raises(Unavailable):
        await one.name("pen")
    shelf.away = False
    await one.look()
    assert await one.name("pen") == "Pen"


async def test_a_position_that_was_reached_costs_nothing(shelf: Shelf, one: Instance) -> None:
    """A read with the position of a known change is answered from the cache."""
    assert await one.name("pen") == "Pen"
    assert (await one.name("pen", Position(2)), shelf.reads) == ("Pen", 1)


async def _stored(shared: MemoryCache, entries: int) -> None:
    """What was read goes to the shared cache after its reader was answered: returns when it has that, and no lock."""
    async with asyncio.timeout(20):
        while not len(await _contents(shared)) == shared.counts().entries == entries:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)


async def _contents(shared: MemoryCache) -> dict[str, bytes]:
    keys = ["shelf/product/pen", "shelf/product/none", "shelf/category/office/50/0"]
    found = await shared.multi_get(keys)
    return {key: data for key, data in zip(keys, found, strict=True) if data is not None}


async def _restore(shared: MemoryCache, contents: dict[str, bytes]) -> None:
    for key, data in contents.items():
        await shared.set(key, data)
