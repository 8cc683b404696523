"""The demo catalog."""

from __future__ import annotations

import asyncio
from collections import Counter

from shop_services.product.seed import CATALOG, seed
from shop_services.product.tables import replies
from shop_services.storage import Database
from tests.integration.product.shop import Start


async def test_the_demo_catalog_is_loaded_once(start: Start, database_url: str) -> None:
    """It is there once, by however many it is loaded, and also when the replies to the first are forgotten."""
    shops = [await start(), await start()]
    assert await asyncio.gather(*(seed(shop.products) for shop in shops)) == [24, 24]
    async with Database(database_url, service="test") as database:
        await database.atomically(lambda connection: connection.execute(replies.delete()))
    assert await seed(shops[0].products) == 24
    products = (await shops[0].list()).products
    assert sorted(product.sku for product in products) == sorted(request.sku for request in CATALOG)
    assert Counter(product.category for product in products) == dict.fromkeys(
        ["books", "stationery", "kitchen", "garden"], 6
    )
    stock = {request.sku: request.initial_stock for request in CATALOG}
    for product in products:
        assert await shops[1].stock(product.id) == (stock[product.sku], 0, 0)
