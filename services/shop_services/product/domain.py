"""What a product is, and how it changes. Pure: no protobuf, no database, no clock."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypedDict

from shop_services.runtime.money import Money

KIND = "product"
"""What errors and etags call a product."""


@dataclass(frozen=True, slots=True)
class Product:
    """One thing that the shop sells.

    `revision` numbers the change of the catalog that made it what it is, and `position` the one that created it.
    Changes are numbered in the order in which they were committed, so positions are the order in which products came.
    """

    id: str
    sku: str
    name: str
    description: str
    category: str
    price: Money
    create_time: datetime
    update_time: datetime
    position: int
    revision: int

    @property
    def weight(self) -> int:
        """About how many bytes it takes in a response, and never less: up to four a character, and 500 for the rest."""
        return 4 * (len(self.name) + len(self.description)) + 500

    def changed(self, changes: Changes, now: datetime, revision: int) -> Product:
        """The product after `changes`, made by the change `revision` of the catalog; itself if they change nothing."""
        after = replace(self, **changes)
        return self if after == self else replace(after, update_time=now, revision=revision)


class Changes(TypedDict, total=False):
    """New values of the fields that can be changed; what is absent stays."""

    name: str
    description: str
    category: str
    price: Money


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to come into the catalog, with how many there are to sell at first."""

    sku: str
    name: str
    description: str
    category: str
    price: Money
    initial_stock: int


class ChangeType(enum.StrEnum):
    """What happened to a product. The names are those of the API."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the catalog. `product` is as it was after it; when deleted, as it last was.

    `previous_category` is where an update found the product; None: it was no update, or was logged by older code.
    """

    revision: int
    type: ChangeType
    product: Product
    previous_category: str | None = None
