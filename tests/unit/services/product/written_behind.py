"""What the tests of mode `behind` have in common: a catalog in SQLite, a log in memory, and instances over both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from shop.product.v1 import product_pb2 as pb
from shop_services.messaging.compacted import StartOver
from shop_services.messaging.compacted_memory import MemoryLog, MemoryRecords
from shop_services.product import storage, tables
from shop_services.product.behind import BehindChanges
from shop_services.product.domain import Change, Changes, NewProduct, Product
from shop_services.product.drainer import Drainer, Due
from shop_services.product.overlaid import OverlaidReads
from shop_services.product.overlay import Overlay
from shop_services.product.pending_messages import Written
from shop_services.product.reads import Answer, Outcome
from shop_services.product.servicer import to_proto
from shop_services.product.source import DatabaseReads
from shop_services.product.usecases import Products
from shop_services.product.wiring import MIGRATIONS
from shop_services.product.writing_behind import writing
from shop_services.runtime.ids import new_id
from shop_services.runtime.money import Money
from shop_services.storage import Database, Mutation, Replies, migrate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEEP = 1000


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Instance:
    """A process over a database and a log: `follow` and `drain` do what else goes on by itself."""

    def __init__(self, database: Database, records: MemoryRecords, seed: int = 0) -> None:
        self.database = database
        self.log = MemoryLog(records)
        self.settled: list[tuple[str, Written]] = []
        self.changed: list[Change] = []
        self.overlay = Overlay(lambda product_id, note: self.settled.append((product_id, note)), clock=records.clock)
        self.replies = Replies(database, tables.replies, lambda: NOW)
        self.direct = Products(database, self.changed.append, lambda: NOW, new_id, keep=KEEP)
        rng = Random(seed)
        self.known: list[int] = []
        known = self.known.append
        self.changes = BehindChanges(self.direct, database, self.overlay, self.log, known, lambda: NOW, rng)
        self.drainer = Drainer(self.overlay, self.log, writing(database, self.replies, KEEP), self.changed.append, rng)
        self.reads = OverlaidReads(DatabaseReads(database), self.overlay, 1.0)
        self._follower = self.log.follow()

    async def follow(self) -> None:
        """Read what is new in the log."""
        try:
            news = await self._follower.read()
        except StartOver as error:
            self.overlay.start_over(lost=error.lost)
        else:
            self.overlay.read(news.records, news.as_of)

    async def drain(self) -> int:
        """Write and clear what is due; returns how many products that were."""
        batch, _ = self.drainer._due()
        await self.drainer.drain(batch)
        return len(batch)

    async def flush(self) -> int:
        """Write and clear all that is pending; returns how many products that were."""
        entries = list(self.overlay.active())
        batch = [Due(name, entry.sequence, entry.state, entry.note) for name, entry in entries if entry.state]
        await self.drainer.drain(batch)
        return len(batch)

    async def create(self, sku: str, request_id: str = "") -> str:
        """A new product; returns its id."""
        new = NewProduct(sku, f"The {sku}", "", "things", Money("EUR", 500), 3)
        request = pb.CreateProductRequest(sku=sku, request_id=request_id)
        mutation: Mutation[Outcome, pb.CreateProductResponse] = self.replies.mutation(
            request, pb.CreateProductResponse, _created
        )
        return (await self.changes.create(new, mutation)).reply.product.id

    async def update(
        self, product_id: str, *, etag: str = "", request_id: str = "", **changes: Any
    ) -> Answer[pb.UpdateProductResponse]:
        """Change a product."""
        given: Changes = changes  # type: ignore[assignment]  # its fields
        request = pb.UpdateProductRequest(
            product=pb.Product(id=product_id, etag=etag, description=repr(changes)), request_id=request_id
        )
        mutation = self.replies.mutation(request, pb.UpdateProductResponse, _updated)
        return await self.changes.update(product_id, given, etag, mutation)

    async def delete(
        self, product_id: str, *, etag: str = "", request_id: str = ""
    ) -> Answer[pb.DeleteProductResponse]:
        """Delete a product."""
        request = pb.DeleteProductRequest(product_id=product_id, etag=etag, request_id=request_id)
        mutation = self.replies.mutation(request, pb.DeleteProductResponse, _deleted)
        return await self.changes.delete(product_id, etag, mutation)

    async def row(self, product_id: str) -> Product | None:
        """What the database has of a product."""
        async with self.database.reading() as connection:
            return (await storage.get_many(connection, [product_id])).get(product_id)

    async def logged(self) -> list[tuple[str, str]]:
        """The changes that were written: their types, and the names of the products."""
        changes = await storage.Changes(self.database).after(0, KEEP)
        return [(change.type.value, change.product.name) for change in changes]


@asynccontextmanager
async def catalog(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty catalog."""
    async with Database(f"sqlite:///{tmp_path / 'product.db'}", service="product") as database:
        await migrate(database, "product", MIGRATIONS)
        yield database


def _created(outcome: Outcome) -> pb.CreateProductResponse:
    return pb.CreateProductResponse(product=to_proto(outcome.product))


def _updated(outcome: Outcome) -> pb.UpdateProductResponse:
    return pb.UpdateProductResponse(product=to_proto(outcome.product))


def _deleted(_outcome: Outcome) -> pb.DeleteProductResponse:
    return pb.DeleteProductResponse()
