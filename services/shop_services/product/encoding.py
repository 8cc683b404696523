"""Products and pages of them as bytes, for caches outside of the process. Its reader trusts nothing that it reads."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from shop_services.product.domain import Product
from shop_services.runtime.money import Money
from shop_services.runtime.paging import Page

_FORMAT = 1


class ProductCodec:
    """A `Codec` of products: a JSON array of its fields."""

    def dumps(self, value: Product) -> bytes:
        """The product as bytes."""
        return _dumped(_fields(value))

    def loads(self, data: bytes) -> Product:
        """The product in `data`. Raises `ValueError` if there is none, or in another format."""
        return _product(_loaded(data))


class PageCodec:
    """A `Codec` of pages."""

    def dumps(self, value: Page[Product]) -> bytes:
        """The page as bytes."""
        return _dumped([value.next_token, [_fields(product) for product in value.items]])

    def loads(self, data: bytes) -> Page[Product]:
        """The page in `data`. Raises `ValueError` if there is none, or in another format."""
        match _loaded(data):
            case [str(token), [*items]]:
                return Page(tuple(_product(fields) for fields in items), token)
        raise ValueError("not a page of products")


def _fields(product: Product) -> list[str | int]:
    return [
        product.id,
        product.sku,
        product.name,
        product.description,
        product.category,
        product.price.currency,
        product.price.hundredths,
        product.create_time.isoformat(),
        product.update_time.isoformat(),
        product.position,
        product.revision,
    ]


def _product(fields: Any) -> Product:
    match fields:
        case [
            str(name_of_it),
            str(sku),
            str(name),
            str(description),
            str(category),
            str(currency),
            int(hundredths),
            str(created),
            str(updated),
            int(position),
            int(revision),
        ]:
            times = datetime.fromisoformat(created), datetime.fromisoformat(updated)
            if None not in (times[0].tzinfo, times[1].tzinfo):
                price = Money(currency, hundredths)
                return Product(name_of_it, sku, name, description, category, price, *times, position, revision)
    raise ValueError("not a product")


def _dumped(body: list[Any]) -> bytes:
    return json.dumps([_FORMAT, body], ensure_ascii=False, separators=(",", ":")).encode()


def _loaded(data: bytes) -> Any:
    match json.loads(data):
        case [int(version), body] if version == _FORMAT:
            return body
    raise ValueError(f"not in format {_FORMAT}")
