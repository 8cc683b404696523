"""What the catalog's reads and changes look like to those who ask, whatever is between them and the database.

Implementations stand in front of each other: the database (`source.py`, `usecases.py`), caches before it (`cached.py`),
and changes that are kept but not yet written before those (mode `behind`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

from shop_services.caching.copies import Copy
from shop_services.product.domain import Change, Changes, NewProduct, Product
from shop_services.product.position import ANY, Position
from shop_services.runtime.paging import Page, read_token
from shop_services.storage import Mutation

R = TypeVar("R", bound=Message)
R_co = TypeVar("R_co", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list of products: `size` of a category, or of all if it is empty, that come after a position."""

    category: str
    size: int
    after: int = 0

    @property
    def query(self) -> Mapping[str, str | int]:
        """What page tokens are bound to."""
        return {"list": "products", "category": self.category}

    @classmethod
    def of(cls, category: str, size: int, token: str) -> Listing:
        """The page that `token` asks for.

        Raises:
            InvalidArgument: `token` is broken, or belongs to another category.
        """
        first = cls(category, size)
        cursor = read_token(token, first.query, (int,))
        return first if cursor is None else cls(category, size, int(cursor[0]))


class CatalogReads(Protocol):
    """Reads. Each answer says `as_of` which change of the catalog it is, and is of `at` or later.

    All raise `Unavailable` if the database is needed and away, and `OutOfRange` if there is no position `at` yet.
    """

    async def product(self, product_id: str, at: Position = ANY) -> Copy[Product]:
        """The product with that id; a copy without a value if there is none."""

    async def products(self, product_ids: Sequence[str], at: Position = ANY) -> Mapping[str, Copy[Product]]:
        """The same of several, by id: each of `product_ids` is there."""

    async def page(self, listing: Listing, at: Position = ANY) -> Copy[Page[Product]]:
        """A page of products, in the order in which they came into the catalog. It always has a value."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change made: the product after it (deleted: as it last was), as of the change `revision` of the catalog.

    `change` is None if it changed nothing.
    """

    product: Product
    revision: int
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[R_co]):
    """The reply to a request for a change, and the position that has it.

    `change` is what this call made: None if the request changes nothing, or was done before and has its reply again.
    """

    reply: R_co
    position: Position
    change: Change | None = None


class CatalogChanges(Protocol):
    """Changes. Who has the answer to one reads it, or what came after it, from the same instance from then on."""

    async def create(self, new: NewProduct, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """Put a product into the catalog, with its first stock. Raises `AlreadyExists` if its SKU is taken."""

    async def update(self, product_id: str, changes: Changes, etag: str, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """Change a product. What changes nothing is no change. Raises `NotFound`, or `Aborted` for another's `etag`."""

    async def delete(self, product_id: str, etag: str, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """Take a product out of the catalog and off the sale: orders keep what they have reserved of it.

        Raises `NotFound`, or `Aborted` if `etag` is of another state.
        """
