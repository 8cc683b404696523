"""The catalog over real servers and databases."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.type.money_pb2 import Money

from shop.product.v1 import product_pb2 as pb
from tests.integration.product.shop import TIMEOUT, Shop, Start, euros, failure

Code = grpc.StatusCode


async def _get(shop: Shop, product_id: str) -> pb.Product:
    return (await shop.products.GetProduct(pb.GetProductRequest(product_id=product_id), timeout=TIMEOUT)).product


async def test_a_product_comes_back_as_it_was_created(shop: Shop) -> None:
    """Every field is kept, and the server gives the id, the times and the etag."""
    created = await shop.create(
        "PEN-1", name="Füller ✒", description="Schreibt.\nLang.", category="office", price=euros(12, 34)
    )
    assert (created.sku, created.name, created.category) == ("PEN-1", "Füller ✒", "office")
    assert created.description == "Schreibt.\nLang."
    assert created.price == euros(12, 34)
    assert created.id
    assert created.etag
    assert created.create_time == created.update_time
    assert created.create_time.seconds > 1_700_000_000
    assert await _get(shop, created.id) == created


@pytest.mark.parametrize(
    "price",
    [
        Money(currency_code="EUR"),
        Money(currency_code="EUR", nanos=10_000_000),
        Money(currency_code="JPY", units=1_000_000_000),
        Money(currency_code="USD", units=999_999_999, nanos=990_000_000),
    ],
)
async def test_prices_are_exact(shop: Shop, price: Money) -> None:
    """The least and the greatest price come back to the last digit."""
    created = await shop.create("PEN-1", price=price)
    assert (await _get(shop, created.id)).price == price


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"price": euros(-1)}, "price"),
        ({"price": Money(currency_code="EUR", nanos=1_000_000)}, "price"),
        ({"price": Money(currency_code="euro", units=1)}, "price"),
        ({"price": None}, "price"),
        ({"name": ""}, "name"),
        ({"category": "Not a slug"}, "category"),
        ({"stock": -1}, "initial_stock"),
    ],
)
async def test_a_broken_field_is_named(shop: Shop, fields: dict[str, object], wrong: str) -> None:
    """A request that breaks a rule is refused, with the field's name in the details, and leaves nothing behind."""
    failed = await failure(shop.create("PEN-1", **fields))  # type: ignore[arg-type]
    assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, [wrong])
    assert not (await shop.list()).products


async def test_a_taken_sku_is_named(shop: Shop) -> None:
    """A second product with the same SKU is refused, and the SKU is named; the first one is untouched."""
    first = await shop.create("PEN-1")
    failed = await failure(shop.create("PEN-1", name="Another"))
    assert (failed.code, failed.fields, failed.resources) == (Code.ALREADY_EXISTS, ["sku"], [("product", "PEN-1")])
    assert (await shop.list()).products == [first]


async def test_many_products_of_one_sku_at_once_make_one(start: Start) -> None:
    """Of callers that create the same SKU at the same time at two instances, one succeeds."""
    shops = [await start(), await start()]
    results = await asyncio.gather(*(shops[i % 2].create("PEN-1") for i in range(20)), return_exceptions=True)
    codes = [result.code() for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert codes == [Code.ALREADY_EXISTS] * 19


async def test_a_repeated_request_gets_the_first_answer(start: Start) -> None:
    """However often, wherever and at the same time it is repeated, a request with an id creates one product."""
    shops = [await start(), await start()]
    answers = await asyncio.gather(*(shops[i % 2].create("PEN-1", request_id="r1") for i in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert (await shops[0].list()).products == [answers[0]]
    failed = await failure(shops[0].create("PEN-2", request_id="r1"))
    assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, ["request_id"])


async def test_an_unknown_id_is_not_found(shop: Shop) -> None:
    """Get, update and delete name the product that does not exist."""
    for call in (_get(shop, "nothing"), shop.update("nothing", name="x"), shop.delete("nothing")):
        failed = await failure(call)
        assert (failed.code, failed.resources) == (Code.NOT_FOUND, [("product", "nothing")])


async def test_a_batch_keeps_the_order_and_names_what_is_missing(shop: Shop) -> None:
    """Products come in the order of the request, and so do the ids that nobody has."""
    one, two = await shop.create("A"), await shop.create("B")
    request = pb.BatchGetProductsRequest(product_ids=["y", two.id, "x", one.id])
    answer = await shop.products.BatchGetProducts(request, timeout=TIMEOUT)
    assert list(answer.products) == [two, one]
    assert list(answer.missing_product_ids) == ["y", "x"]


async def test_an_update_changes_what_the_mask_names(shop: Shop) -> None:
    """Fields outside of the mask stay, whatever the request holds there; time and etag are new."""
    before = await shop.create("PEN-1", description="Blue")
    after = await shop.update(before.id, ["price", "description"], name="Ignored", price=euros(7, 50))
    assert (after.name, after.description, after.price) == (before.name, "", euros(7, 50))
    assert after.update_time.ToDatetime() > before.update_time.ToDatetime()
    assert after.create_time == before.create_time
    assert after.etag != before.etag
    assert await _get(shop, before.id) == after


async def test_an_update_without_a_mask_changes_what_is_set(shop: Shop) -> None:
    """An empty mask stands for every field that is set and can be changed."""
    before = await shop.create("PEN-1", description="Blue")
    after = await shop.update(before.id, name="Biro", category="desk")
    assert (after.name, after.category, after.description, after.price) == ("Biro", "desk", "Blue", before.price)


@pytest.mark.parametrize(
    ("mask", "fields", "wrong"),
    [
        (["sku"], {"sku": "PEN-2"}, "update_mask"),
        (["colour"], {}, "update_mask"),
        (["price.units"], {"price": euros(1)}, "update_mask"),
        ([], {}, "update_mask"),
        (["name"], {}, "product.name"),
        (["category"], {}, "product.category"),
        (["price"], {}, "product.price"),
        (["price"], {"price": euros(-1)}, "product.price"),
    ],
)
async def test_an_update_that_cannot_be_is_refused(
    shop: Shop, mask: list[str], fields: dict[str, object], wrong: str
) -> None:
    """What does not exist, cannot be changed or must not be empty is named, and the product stays as it is."""
    before = await shop.create("PEN-1")
    failed = await failure(shop.update(before.id, mask, **fields))
    assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, [wrong])
    assert await _get(shop, before.id) == before


async def test_an_update_must_name_a_product(shop: Shop) -> None:
    """Without an id, the field is named."""
    failed = await failure(shop.update("", name="Biro"))
    assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, ["product.id"])


async def test_a_change_made_on_an_older_state_is_aborted(shop: Shop) -> None:
    """The etag of an older state refuses both update and delete; the present one lets them pass."""
    old = await shop.create("PEN-1")
    new = await shop.update(old.id, name="Biro")
    assert (await failure(shop.update(old.id, name="Quill", etag=old.etag))).code is Code.ABORTED
    assert (await failure(shop.delete(old.id, old.etag))).code is Code.ABORTED
    newest = await shop.update(old.id, name="Quill", etag=new.etag)
    assert await _get(shop, old.id) == newest
    await shop.delete(old.id, newest.etag)


async def test_of_many_changes_on_one_state_one_is_made(start: Start) -> None:
    """Of twenty callers that change the state they all read, at two instances, one succeeds, the others are ABORTED."""
    shops = [await start(), await start()]
    product = await shops[0].create("PEN-1")
    results = await asyncio.gather(
        *(shops[i % 2].update(product.id, name=f"Name {i}", etag=product.etag) for i in range(20)),
        return_exceptions=True,
    )
    made = [result for result in results if isinstance(result, pb.Product)]
    assert len(made) == 1
    assert await _get(shops[0], product.id) == made[0]
    assert {r.code() for r in results if isinstance(r, grpc.aio.AioRpcError)} == {Code.ABORTED}


async def test_an_update_to_the_same_values_is_no_change(shop: Shop) -> None:
    """The etag stays, so it conflicts with nobody."""
    before = await shop.create("PEN-1")
    assert await shop.update(before.id, name=before.name, price=before.price) == before


async def test_a_deleted_product_is_gone_and_its_sku_is_free(shop: Shop) -> None:
    """It is neither listed nor found nor changed, and another product may take its SKU."""
    product = await shop.create("PEN-1")
    await shop.delete(product.id)
    assert not (await shop.list()).products
    for call in (_get(shop, product.id), shop.update(product.id, name="Biro"), shop.delete(product.id)):
        assert (await failure(call)).code is Code.NOT_FOUND
    assert (await shop.create("PEN-1")).id != product.id


async def test_a_repeated_delete_succeeds(shop: Shop) -> None:
    """With the same request id, the second one gets the first one's answer, not NOT_FOUND."""
    product = await shop.create("PEN-1")
    request = pb.DeleteProductRequest(product_id=product.id, request_id="d1")
    await shop.products.DeleteProduct(request, timeout=TIMEOUT)
    await shop.products.DeleteProduct(request, timeout=TIMEOUT)


async def _walk(shop: Shop, category: str = "", size: int = 3) -> list[str]:
    skus: list[str] = []
    token = ""
    while True:
        page = await shop.list(category, size, token)
        assert len(page.products) <= size
        skus += [product.sku for product in page.products]
        if not (token := page.next_page_token):
            return skus


async def test_pages_come_in_the_order_of_creation(shop: Shop) -> None:
    """A walk by pages sees every product once, oldest first; a category shows its own alone."""
    skus = [f"P-{i:02}" for i in range(10)]
    for i, sku in enumerate(skus):
        await shop.create(sku, category="even" if i % 2 == 0 else "odd")
    assert await _walk(shop) == skus
    assert await _walk(shop, size=5) == skus
    assert await _walk(shop, "odd", size=2) == skus[1::2]
    assert await _walk(shop, "none") == []


async def test_a_walk_while_products_come_and_go_sees_each_old_one_once(start: Start) -> None:
    """Products that are added, changed and deleted meanwhile neither repeat nor hide those that were there and stay."""
    shop, other = await start(), await start()
    old = [(await shop.create(f"OLD-{i:02}")) for i in range(20)]
    doomed = [await shop.create(f"DOOMED-{i}") for i in range(10)]
    walked = asyncio.Event()

    async def disturb() -> None:
        for i in range(200):
            await other.create(f"NEW-{i}")
            await other.update(old[i % 20].id, name=f"Renamed {i}")
            if i < len(doomed):
                await other.delete(doomed[i].id)
            if walked.is_set():
                return

    disturbing = asyncio.create_task(disturb())
    seen = await _walk(shop, size=1)
    walked.set()
    await disturbing
    assert [sku for sku in seen if sku.startswith("OLD")] == [product.sku for product in old]
    assert len(seen) == len(set(seen))


async def test_a_token_is_bound_to_its_category(shop: Shop) -> None:
    """A token of one list is refused in another, and so is one that was never ours."""
    for i in range(3):
        await shop.create(f"P-{i}")
    token = (await shop.list(size=1)).next_page_token
    for category, given in (("things", token), ("", "garbled"), ("", token[:-2])):
        failed = await failure(shop.list(category, 1, given))
        assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, ["page_token"])
