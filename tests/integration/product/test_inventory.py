"""The stock over real servers and databases: never oversold, never lost, whatever comes at once or again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

import grpc
import pytest

from shop.product.v1 import inventory_pb2 as pb
from shop_services.storage import database
from tests.integration.product.shop import TIMEOUT, Shop, Start, failure

Code = grpc.StatusCode

RESERVED = pb.RESERVATION_STATE_RESERVED
RELEASED = pb.RESERVATION_STATE_RELEASED
COMMITTED = pb.RESERVATION_STATE_COMMITTED


async def _ids(shop: Shop, *stock: int) -> list[str]:
    return [(await shop.create(f"P-{i}", stock=count)).id for i, count in enumerate(stock)]


async def test_stock_moves_from_available_to_reserved_to_committed(shop: Shop) -> None:
    """Each step moves exactly the order's items, and the answer shows the order, its state and its items."""
    a, b = await _ids(shop, 10, 5)
    reservation = await shop.reserve("o1", **{a: 3, b: 5})
    assert (reservation.order_id, reservation.state) == ("o1", RESERVED)
    assert {item.product_id: item.quantity for item in reservation.items} == {a: 3, b: 5}
    assert reservation.create_time == reservation.update_time
    assert [await shop.stock(a), await shop.stock(b)] == [(7, 3, 0), (0, 5, 0)]
    committed = await shop.commit("o1")
    assert (committed.state, committed.items) == (COMMITTED, reservation.items)
    assert committed.create_time == reservation.create_time
    assert [await shop.stock(a), await shop.stock(b)] == [(7, 0, 3), (0, 0, 5)]


async def test_released_stock_can_be_sold_again(shop: Shop) -> None:
    """Releasing gives back what the order held, and no more."""
    (a,) = await _ids(shop, 4)
    await shop.reserve("o1", **{a: 4})
    assert (await shop.release("o1")).state == RELEASED
    assert await shop.stock(a) == (4, 0, 0)
    await shop.reserve("o2", **{a: 4})
    assert await shop.stock(a) == (0, 4, 0)


async def test_every_step_can_be_repeated(start: Start) -> None:
    """A step asked for twenty times at once at two instances moves the stock once, and always gives the same answer."""
    shops = [await start(), await start()]
    a, b = await _ids(shops[0], 10, 10)
    reserved = await asyncio.gather(*(shops[i % 2].reserve("o1", **{a: 2, b: 3}) for i in range(20)))
    assert all(answer == reserved[0] for answer in reserved)
    assert [await shops[0].stock(a), await shops[0].stock(b)] == [(8, 2, 0), (7, 3, 0)]
    committed = await asyncio.gather(*(shops[i % 2].commit("o1") for i in range(20)))
    assert all(answer == committed[0] for answer in committed)
    assert [await shops[0].stock(a), await shops[0].stock(b)] == [(8, 0, 2), (7, 0, 3)]
    released = await asyncio.gather(*(shops[i % 2].release("o2") for i in range(20)))
    assert all(answer == released[0] for answer in released)


async def test_too_little_stock_names_every_product_and_takes_nothing(shop: Shop) -> None:
    """Each product of which too little is left is named with what was asked and what is left; nothing is set aside."""
    a, b, c = await _ids(shop, 10, 1, 0)
    failed = await failure(shop.reserve("o1", **{a: 2, b: 3, c: 4}))
    assert failed.code is Code.FAILED_PRECONDITION
    assert sorted(failed.violations) == sorted([("STOCK", b, "asked 3, left 1"), ("STOCK", c, "asked 4, left 0")])
    assert b in failed.message
    assert c in failed.message
    assert a not in failed.message
    assert [await shop.stock(name) for name in (a, b, c)] == [(10, 0, 0), (1, 0, 0), (0, 0, 0)]
    await shop.adjust(b, 2)
    await shop.adjust(c, 4)
    assert (await shop.reserve("o1", **{a: 2, b: 3, c: 4})).state == RESERVED


async def test_a_product_that_does_not_exist_is_not_found(shop: Shop) -> None:
    """Reserving, reading and adjusting name the unknown product; the known ones of the order stay as they are."""
    (a,) = await _ids(shop, 10)
    for call in (shop.reserve("o1", **{a: 1, "nothing": 1}), shop.stock("nothing"), shop.adjust("nothing", 1)):
        failed = await failure(call)
        assert (failed.code, failed.resources) == (Code.NOT_FOUND, [("product", "nothing")])
    assert await shop.stock(a) == (10, 0, 0)


async def test_an_order_cannot_reserve_other_items(shop: Shop) -> None:
    """The same items in another order are the same; anything else is refused, and the first items stay reserved."""
    a, b = await _ids(shop, 10, 10)
    first = await shop.reserve("o1", **{a: 1, b: 2})
    assert await shop.reserve("o1", **{b: 2, a: 1}) == first
    for other in ({a: 1}, {a: 1, b: 3}):
        failed = await failure(shop.reserve("o1", **other))
        assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, ["items"])
    assert [await shop.stock(a), await shop.stock(b)] == [(9, 1, 0), (8, 2, 0)]


async def test_a_reservation_that_comes_after_the_release_takes_nothing(shop: Shop) -> None:
    """Releasing first leaves a mark that keeps the late reservation, and a commit, out."""
    (a,) = await _ids(shop, 10)
    released = await shop.release("o1")
    assert (released.state, len(released.items)) == (RELEASED, 0)
    for late in (shop.reserve("o1", **{a: 1}), shop.commit("o1")):
        failed = await failure(late)
        assert failed.code is Code.FAILED_PRECONDITION
        assert "'o1'" in failed.message
        assert failed.violations[0][:2] == ("RESERVATION", "o1")
    assert await shop.stock(a) == (10, 0, 0)


async def test_what_is_sold_is_sold(shop: Shop) -> None:
    """Committed stock can neither be released nor reserved again; what was never reserved cannot be committed."""
    (a,) = await _ids(shop, 10)
    assert (await failure(shop.commit("o1"))).code is Code.NOT_FOUND
    await shop.reserve("o1", **{a: 1})
    await shop.commit("o1")
    for call in (shop.release("o1"), shop.reserve("o1", **{a: 1})):
        assert (await failure(call)).code is Code.FAILED_PRECONDITION
    assert await shop.stock(a) == (9, 0, 1)


async def test_orders_keep_their_stock_of_a_deleted_product(shop: Shop) -> None:
    """What is reserved of a product that left the catalog can be given back or sold; nobody can reserve it any more."""
    a, b = await _ids(shop, 10, 10)
    await shop.reserve("sold", **{a: 1, b: 1})
    await shop.reserve("given-back", **{a: 2, b: 2})
    await shop.delete(a)
    assert (await shop.commit("sold")).state == COMMITTED
    assert (await shop.release("given-back")).state == RELEASED
    assert await shop.stock(b) == (9, 0, 1)
    for call in (shop.reserve("o3", **{a: 1, b: 1}), shop.stock(a), shop.adjust(a, 1)):
        assert (await failure(call)).code is Code.NOT_FOUND
    assert await shop.stock(b) == (9, 0, 1)


async def test_a_delivery_adds_and_a_loss_takes(shop: Shop) -> None:
    """Adjusting changes what is available alone, and never leaves less than none of it."""
    (a,) = await _ids(shop, 3)
    await shop.reserve("o1", **{a: 2})
    assert await shop.adjust(a, 5) == (6, 2, 0)
    assert await shop.adjust(a, -6) == (0, 2, 0)
    failed = await failure(shop.adjust(a, -1))
    assert (failed.code, failed.violations) == (Code.FAILED_PRECONDITION, [("STOCK", a, "asked 1, left 0")])
    assert await shop.stock(a) == (0, 2, 0)
    failed = await failure(shop.adjust(a, 0))
    assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, ["delta"])


async def test_a_repeated_delivery_counts_once(start: Start) -> None:
    """With the same request id, twenty deliveries at once at two instances are one."""
    shops = [await start(), await start()]
    (a,) = await _ids(shops[0], 0)
    answers = await asyncio.gather(*(shops[i % 2].adjust(a, 7, request_id="d1") for i in range(20)))
    assert set(answers) == {(7, 0, 0)}
    assert await shops[0].stock(a) == (7, 0, 0)


@pytest.mark.parametrize(
    ("items", "wrong"),
    [
        ([], "items"),
        ([("a", 0)], "items[0].quantity"),
        ([("a", 1), ("a", 2)], "items"),
        ([("", 1)], "items[0].product_id"),
    ],
)
async def test_a_broken_reservation_is_named(shop: Shop, items: list[tuple[str, int]], wrong: str) -> None:
    """A request that breaks a rule is refused with the field's path."""
    request = pb.ReserveStockRequest(
        order_id="o1", items=[pb.StockItem(product_id=name, quantity=count) for name, count in items]
    )
    failed = await failure(shop.inventory.ReserveStock(request, timeout=TIMEOUT))
    assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, [wrong])


async def test_the_last_units_are_sold_exactly_once(start: Start) -> None:
    """Of a hundred orders at once at two instances for the last 30 units, 30 get one and 70 are refused."""
    shops = [await start(), await start()]
    (a,) = await _ids(shops[0], 30)
    results = await asyncio.gather(
        *(shops[i % 2].reserve(f"o{i}", **{a: 1}) for i in range(100)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} == {Code.FAILED_PRECONDITION}
    assert len(refused) == 70
    assert await shops[0].stock(a) == (0, 30, 0)


async def test_orders_that_want_the_same_products_never_deadlock(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty orders at once at two instances, each naming eight products in an order of its own, need no second try."""
    monkeypatch.setattr(database, "ATTEMPTS", 1)
    shops = [await start(), await start()]
    products = await _ids(shops[0], *[60] * 8)
    draw = random.Random(7)
    orders = [dict.fromkeys(draw.sample(products, 8), 1) for _ in range(60)]
    await asyncio.gather(*(shops[i % 2].reserve(f"o{i}", **order) for i, order in enumerate(orders)))
    assert [await shops[0].stock(name) for name in products] == [(0, 60, 0)] * 8


@pytest.mark.parametrize("seed", range(4))
async def test_no_item_is_lost_or_made_whatever_is_done(start: Start, seed: int) -> None:
    """Any steps, of any orders, in any order, repeated and at once at two instances, keep each product's total.

    In the end, the orders that are committed account for every item that is not available.
    """
    shops = [await start(), await start()]
    products = await _ids(shops[0], 20, 20, 20)
    draw = random.Random(seed)
    wants = {
        f"o{i}": {name: draw.randint(1, 4) for name in draw.sample(products, draw.randint(1, 3))} for i in range(15)
    }

    async def worker(draw: random.Random) -> None:
        for _ in range(20):
            order, shop = draw.choice(list(wants)), draw.choice(shops)
            match draw.choice(("reserve", "reserve", "release", "commit")):
                case "reserve":
                    refused = await _refused(shop.reserve(order, **wants[order]))
                case "release":
                    refused = await _refused(shop.release(order))
                case _:
                    refused = await _refused(shop.commit(order))
            assert refused in (None, Code.FAILED_PRECONDITION, Code.NOT_FOUND)
            counted = await shop.stock(draw.choice(products))
            assert sum(counted) == 20
            assert min(counted) >= 0

    await asyncio.gather(*(worker(random.Random(f"{seed} {i}")) for i in range(6)))
    committed = dict.fromkeys(products, 0)
    for order, items in wants.items():
        if await _refused(shops[0].commit(order)) is None:  # sells what is still reserved
            for name, count in items.items():
                committed[name] += count
    for name in products:
        assert await shops[1].stock(name) == (20 - committed[name], 0, committed[name])


async def _refused(call: Awaitable[pb.Reservation]) -> grpc.StatusCode | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None
