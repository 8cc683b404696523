"""`Users` and `Catalog` in memory, which keep the same contract as those by RPC (`tests/contract/order`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shop_services.order.domain import Product
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.money import Money


class KnownUsers:
    """The users that were added. While it is `away` it cannot be asked."""

    def __init__(self, *ids: str) -> None:
        self._ids = set(ids)
        self.away = False

    async def exists(self, user_id: str) -> bool:
        if self.away:
            raise Unavailable("the user service cannot be asked")
        return user_id in self._ids


class KnownProducts:
    """The products that were added. While it is `away` it cannot be asked; `calls` are the ids that were asked for."""

    def __init__(self) -> None:
        self._products: dict[str, Product] = {}
        self.away = False
        self.calls: list[list[str]] = []

    def add(self, product_id: str, hundredths: int, currency: str = "EUR", name: str = "") -> None:
        """Add a product, or change it."""
        self._products[product_id] = Product(product_id, name or product_id, Money(currency, hundredths))

    async def products(self, product_ids: Sequence[str]) -> Mapping[str, Product]:
        self.calls.append(list(product_ids))
        if self.away:
            raise Unavailable("the product service cannot be asked")
        return {name: self._products[name] for name in product_ids if name in self._products}
