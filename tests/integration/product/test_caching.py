"""What each mode of caching the catalog promises, over real servers, databases and a real Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from redis.asyncio import Redis

from shop.product.v1 import product_pb2 as pb
from shop_services.product.position import REVISION
from shop_services.product.storage import Changes
from shop_services.storage import Database
from tests.integration.product.shop import TIMEOUT, Shop, Start, failure, take
from tests.servers import Valkey

Code = grpc.StatusCode
Metadata = tuple[tuple[str, str], ...]

BOUND = 0.5
PATIENT: dict[str, Any] = {"cache_timeout": 10.0}
"""Settings of an instance that waits for its shared cache longer than this machine may stand still."""
NOWHERE: dict[str, Any] = {"nats_url": "nats://127.0.0.1:1"}
"""Settings of an instance that hears no announcements."""

modes = pytest.mark.parametrize("mode", ["off", "aside", "through", "behind"])
cached = pytest.mark.parametrize("mode", ["aside", "through"])
sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def _name(shop: Shop, product_id: str, at: Metadata = ()) -> str | None:
    """What the product is called; None: there is none."""
    try:
        request = pb.GetProductRequest(product_id=product_id)
        return (await shop.products.GetProduct(request, timeout=TIMEOUT, metadata=at)).product.name
    except grpc.aio.AioRpcError as error:
        if error.code() is Code.NOT_FOUND:
            return None
        raise


async def _listed(shop: Shop, category: str = "", at: Metadata = ()) -> list[str]:
    """The names on the first page of a category."""
    request = pb.ListProductsRequest(category=category)
    return [p.name for p in (await shop.products.ListProducts(request, timeout=TIMEOUT, metadata=at)).products]


async def _batch(shop: Shop, *product_ids: str, at: Metadata = ()) -> list[str]:
    """The names of those that exist."""
    request = pb.BatchGetProductsRequest(product_ids=product_ids)
    return [p.name for p in (await shop.products.BatchGetProducts(request, timeout=TIMEOUT, metadata=at)).products]


async def _update(shop: Shop, product_id: str, **fields: Any) -> Metadata:
    """Change a product; returns the metadata that asks for what has the change."""
    request = pb.UpdateProductRequest(product=pb.Product(id=product_id, **fields))
    return await _position(shop.products.UpdateProduct(request, timeout=TIMEOUT))


async def _delete(shop: Shop, product_id: str) -> Metadata:
    return await _position(shop.products.DeleteProduct(pb.DeleteProductRequest(product_id=product_id), timeout=TIMEOUT))


async def _position(call: Awaitable[object]) -> Metadata:
    await call
    initial = dict(await cast("grpc.aio.UnaryUnaryCall[Any, Any]", call).initial_metadata())
    return ((REVISION, str(initial[REVISION])),)


def _count(shop: Shop, name: str, **labels: str) -> float:
    """One of the counts that the instance has for Prometheus, over all labels that are not named."""
    assert shop.app is not None
    samples = [sample for one in shop.app.collectors for metric in one.collect() for sample in metric.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@modes
async def test_read_your_writes_on_the_same_instance(start: Start, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Whatever was read before, each change is seen by the next read: of the product, in batches, and in lists.

    The log is not looked at meanwhile, and nothing is announced.
    """
    monkeypatch.setattr("shop_services.product.caches.INTERVAL", 3600.0)
    shop = await start(catalog_cache=mode, catalog_staleness=60.0, **({} if mode == "behind" else NOWHERE))
    assert (await _listed(shop), await _listed(shop, "new")) == ([], [])
    pen = await shop.create("PEN", name="Pen", category="old")
    for _ in range(2):
        assert (await _name(shop, pen.id), await _batch(shop, pen.id, "none")) == ("Pen", ["Pen"])
        assert (await _listed(shop), await _listed(shop, "old"), await _listed(shop, "new")) == (["Pen"], ["Pen"], [])
    await _update(shop, pen.id, name="Quill")
    assert (await _name(shop, pen.id), await _listed(shop, "old"), await _listed(shop)) == (
        "Quill",
        ["Quill"],
        ["Quill"],
    )
    if mode != "behind":  # where a product enters a list when it is written
        await _update(shop, pen.id, category="new")
        assert (await _listed(shop, "old"), await _listed(shop, "new")) == ([], ["Quill"])
    await _delete(shop, pen.id)
    assert (await _name(shop, pen.id), await _batch(shop, pen.id), await _listed(shop)) == (None, [], [])


@modes
async def test_with_catalog_revision_another_instance_shows_the_change(start: Start, mode: str) -> None:
    """A read that brings the position of a change sees it anywhere at once, however warm the other's caches are."""
    one, other = [await start(catalog_cache=mode, catalog_staleness=5.0) for _ in range(2)]
    pen = await one.create("PEN", name="Pen", category="old")
    for round_ in range(5):
        name = f"Pen {round_}"
        assert await _name(other, pen.id) is not None
        assert await _listed(other, "old") != []
        at = await _update(one, pen.id, name=name)
        assert (await _name(other, pen.id, at), await _batch(other, pen.id, at=at)) == (name, [name])
        assert await _listed(other, "old", at) == [name]
    at = await _delete(one, pen.id)
    assert (await _name(other, pen.id, at), await _listed(other, at=at)) == (None, [])


@cached
async def test_without_announcements_no_read_is_older_than_the_bound(start: Start, mode: str) -> None:
    """Another instance, which hears nothing, shows a change within the bound: products, lists left and entered."""
    one, other = [await start(catalog_cache=mode, catalog_staleness=BOUND, **NOWHERE) for _ in range(2)]
    pen = await one.create("PEN", name="Pen", category="old")

    async def shown() -> tuple[str | None, list[str], list[str]]:
        return await _name(other, pen.id), await _listed(other, "old"), await _listed(other, "new")

    async def becomes(name: str | None, old: list[str], new: list[str]) -> None:
        known = began = time.monotonic()
        while await shown() != (name, old, new):
            assert began - known <= BOUND, "a read that began later than that after the change does not show it"
            began = time.monotonic()

    assert await shown() == ("Pen", ["Pen"], [])
    await _update(one, pen.id, name="Quill", category="new")
    await becomes("Quill", [], ["Quill"])
    await _delete(one, pen.id)
    await becomes(None, [], [])


@cached
async def test_the_bound_holds_while_the_follower_is_held_up(
    start: Start, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """An instance that cannot look at the log shows copies for as long as the bound, and then what the database has."""
    one, other = [await start(catalog_cache=mode, catalog_staleness=BOUND, **NOWHERE) for _ in range(2)]
    pen = await one.create("PEN", name="Pen")
    assert (await _name(other, pen.id), await _listed(other)) == ("Pen", ["Pen"])
    released = asyncio.Event()
    look = Changes.touched

    async def held_up(self: Changes, after: int, limit: int) -> object:
        await released.wait()
        return await look(self, after, limit)

    monkeypatch.setattr(Changes, "touched", held_up)
    await _update(one, pen.id, name="Quill")
    await asyncio.sleep(BOUND)
    loads = _count(other, "shop_catalog_database_total", outcome="load")
    for _ in range(3):
        assert (await _name(other, pen.id), await _listed(other)) == ("Quill", ["Quill"])
    assert _count(other, "shop_catalog_database_total", outcome="load") - loads == 6  # no copy is good enough
    released.set()
    hits = _count(other, "shop_catalog_cache_total", outcome="hit")
    async with asyncio.timeout(TIMEOUT):
        while _count(other, "shop_catalog_cache_total", outcome="hit") == hits:
            assert await _name(other, pen.id) == "Quill"


@sqlite
@cached
async def test_old_copies_and_garbage_in_the_shared_cache_are_not_shown(
    start: Start, redis_url: str, mode: str
) -> None:
    """A Redis that comes back with what it had before a change, or with anything else, misleads no instance."""
    one, other = [await start(catalog_cache=mode, cache_url=redis_url, **PATIENT) for _ in range(2)]
    pen, cup = await one.create("PEN", name="Pen"), await one.create("CUP", name="Cup")
    await _delete(one, cup.id)
    assert (await _name(one, pen.id), await _name(one, cup.id), await _listed(one)) == ("Pen", None, ["Pen"])
    async with Redis.from_url(redis_url) as redis:
        old = await _stored(redis, 3)
        at = await _update(one, pen.id, name="Quill")
        for damage in (lambda data: data, lambda data: data[:-1], lambda _: b"garbage"):
            await _name(other, pen.id, at)
            for key, data in old.items():
                await redis.set(key, damage(data))
            fresh = await start(catalog_cache=mode, cache_url=redis_url, **PATIENT)
            for shop in (fresh, other, one):
                assert (await _name(shop, pen.id), await _name(shop, cup.id)) == ("Quill", None)
                assert await _listed(shop) == ["Quill"]


@sqlite
async def test_a_second_instance_reads_what_the_first_has_shared(start: Start, redis_url: str) -> None:
    """A new instance is warm: what another has read from the database it finds in Redis, also what there is not."""
    patient = {"catalog_staleness": 60.0} | PATIENT  # else no copy will do after this machine has stood still
    one = await start(cache_url=redis_url, **patient)
    pen = await one.create("PEN", name="Pen")
    assert (await _name(one, pen.id), await _name(one, "none"), await _listed(one)) == ("Pen", None, ["Pen"])
    async with Redis.from_url(redis_url) as redis:
        await _stored(redis, 3)
    other = await start(cache_url=redis_url, **patient)
    async with asyncio.timeout(TIMEOUT):
        while _count(other, "shop_catalog_revision") < 1:  # noqa: ASYNC110 - its follower has not looked yet
            await asyncio.sleep(0.01)
    assert (await _name(other, pen.id), await _name(other, "none"), await _listed(other)) == ("Pen", None, ["Pen"])
    assert _count(other, "shop_catalog_cache_total", tier="shared", outcome="hit") == 3
    assert _count(other, "shop_catalog_database_total", outcome="load") == 0


@sqlite
@cached
async def test_a_shared_cache_that_comes_and_goes_fails_no_read(start: Start, tmp_path: Path, mode: str) -> None:
    """Valkey is killed, frozen and restarted while two instances read and write: every call is answered, and right."""
    valkey = Valkey(tmp_path / "valkey").start()
    try:
        one, other = [await start(catalog_cache=mode, cache_url=valkey.url) for _ in range(2)]
        pen = await one.create("PEN", name="Pen")
        for round_, trouble in enumerate((valkey.kill, valkey.start, valkey.pause, valkey.resume)):
            await asyncio.to_thread(trouble)
            for i in range(5):
                name = f"Pen {round_}.{i}"
                at = await _update(one, pen.id, name=name)
                assert (await _name(one, pen.id), await _name(other, pen.id, at)) == (name, name)
    finally:
        valkey.kill()


@cached
async def test_it_serves_without_a_cache_and_without_a_bus(start: Start, mode: str) -> None:
    """Where neither Redis, the cache service nor NATS is there, the catalog is read and changed all the same."""
    for lost in ({"cache_url": "redis://127.0.0.1:1"}, {}):
        shop = await start(catalog_cache=mode, **NOWHERE, **lost)
        product = await shop.create(f"P-{len(lost)}")
        await _update(shop, product.id, name="Changed")
        assert await _name(shop, product.id) == "Changed"
        await _delete(shop, product.id)
        assert await _name(shop, product.id) is None


@cached
async def test_an_announcement_is_heard_at_once(start: Start, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """With a bus another instance does not wait for its next look, which would be after 15 s, nor for the bound."""
    monkeypatch.setattr("shop_services.product.caches.INTERVAL", 3600.0)
    one, other = [await start(catalog_cache=mode, catalog_staleness=60.0) for _ in range(2)]
    pen = await one.create("PEN", name="Pen")
    assert await _name(other, pen.id) == "Pen"
    await _update(one, pen.id, name="Quill")
    began = time.monotonic()
    while await _name(other, pen.id) != "Quill":
        assert time.monotonic() - began < 10


@cached
async def test_who_watches_reads_what_was_watched(start: Start, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """After a change has come in a stream, a read at the same instance has it, though nobody looked meanwhile."""
    monkeypatch.setattr("shop_services.product.caches.INTERVAL", 3600.0)
    monkeypatch.setattr("shop_services.product.wiring.RARELY", 0.02)
    one, other = [await start(catalog_cache=mode, catalog_staleness=60.0, **NOWHERE) for _ in range(2)]
    pen = await one.create("PEN", name="Pen")
    call = await other.watch()
    for i in range(10):
        await _name(other, pen.id)
        await _update(one, pen.id, name=f"Pen {i}")
        await take(call, 1)
        assert (await _name(other, pen.id), await _listed(other)) == (f"Pen {i}", [f"Pen {i}"])


@sqlite
async def test_one_task_looks_for_changes(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers need no looks of their own: they are woken by the one that keeps the caches up to date."""
    monkeypatch.setattr("shop_services.product.wiring.RARELY", 3600.0)
    one, other = [await start(**NOWHERE) for _ in range(2)]
    call = await other.watch()
    for i in range(3):
        pen = await one.create(f"PEN-{i}")
        assert [change.product for change in await take(call, 1)] == [pen]


@cached
async def test_a_repeated_request_is_followed_by_reads_that_have_it(start: Start, mode: str) -> None:
    """Who gets the first answer again from another instance reads there what the answer says."""
    one, other = [await start(catalog_cache=mode, catalog_staleness=5.0, **NOWHERE) for _ in range(2)]
    pen = await one.create("PEN", name="Pen")
    assert await _name(other, pen.id) == "Pen"
    request = pb.UpdateProductRequest(product=pb.Product(id=pen.id, name="Quill"), request_id="r1")
    await one.products.UpdateProduct(request, timeout=TIMEOUT)
    await other.products.UpdateProduct(request, timeout=TIMEOUT)
    assert await _name(other, pen.id) == "Quill"


@modes
async def test_a_change_that_changes_nothing_has_a_position_too(start: Start, mode: str) -> None:
    """It can be read from, and leaves copies as good as they were."""
    shop = await start(catalog_cache=mode, catalog_staleness=60.0)
    pen = await shop.create("PEN", name="Pen")
    at = await _update(shop, pen.id, name="Pen")
    assert await _name(shop, pen.id, at) == "Pen"
    if mode != "off":
        hits = _count(shop, "shop_catalog_cache_total", tier="local", outcome="hit")
        assert [await _name(shop, pen.id) for _ in range(5)] == ["Pen"] * 5
        assert _count(shop, "shop_catalog_cache_total", tier="local", outcome="hit") - hits >= 4


@pytest.mark.parametrize("mode", ["off", "aside", "through"])
async def test_a_position_that_is_none_is_refused(start: Start, mode: str) -> None:
    """One of the future is OUT_OF_RANGE, for whoever reads whatever; garbage is an INVALID_ARGUMENT with its name."""
    shop = await start(catalog_cache=mode)
    pen = await shop.create("PEN")
    for at, code in (("2", Code.OUT_OF_RANGE), ("later", Code.INVALID_ARGUMENT)):
        metadata = ((REVISION, at),)
        for call in (
            shop.products.GetProduct(pb.GetProductRequest(product_id=pen.id), metadata=metadata),
            shop.products.BatchGetProducts(pb.BatchGetProductsRequest(product_ids=[pen.id]), metadata=metadata),
            shop.products.ListProducts(pb.ListProductsRequest(), metadata=metadata),
        ):
            failed = await failure(call)
            assert failed.code is code
            assert failed.fields == ([] if code is Code.OUT_OF_RANGE else [REVISION])


async def test_the_log_says_which_lists_a_change_touched(start: Start, database_url: str) -> None:
    """Those of the category that a product left, entered or is in; so the lists of others stay as good as they are."""
    shop = await start()
    pen = await shop.create("PEN", category="old")
    await shop.update(pen.id, name="Quill")
    await shop.update(pen.id, category="new")
    await shop.delete(pen.id)
    async with Database(database_url, service="test") as database:
        look = await Changes(database).touched(0, 10)
    assert [touched.product_id for touched in look.found] == [pen.id] * 4
    assert [sorted(touched.categories or ()) for touched in look.found] == [["old"], ["old"], ["new", "old"], ["new"]]


async def test_stock_is_never_cached(start: Start) -> None:
    """What one instance takes is gone at the other at once."""
    one, other = [await start(catalog_staleness=60.0, **NOWHERE) for _ in range(2)]
    pen = await one.create("PEN", stock=5)
    for left in range(4, -1, -1):
        await one.adjust(pen.id, -1)
        assert await other.stock(pen.id) == (left, 0, 0)


async def _stored(redis: Redis, count: int) -> dict[Any, Any]:
    """What Redis holds of copies, as soon as they are so many: they are stored after their readers were answered."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            keys = [key for key in await redis.keys("*") if b"lock:" not in key]
            if len(keys) >= count:
                return dict(zip(keys, await redis.mget(keys), strict=True))
            await asyncio.sleep(0.01)
