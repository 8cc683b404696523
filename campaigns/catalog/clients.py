"""The clients of the catalog: some change products, each its own ones, and some read them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import grpc.aio
from google.type.money_pb2 import Money

from campaigns.catalog.history import History, Read, States
from shop.product.v1 import product_pb2 as pb
from shop.product.v1.product_pb2_grpc import ProductServiceStub

CATEGORIES = ("books", "games", "music", "tools")
PRODUCTS = 40
WRITERS, READERS = 4, 8

_TIMEOUT = 8.0
_GIVES_UP = 60.0
_AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_MOVES = 0.2  # of the changes also change the category
_MANY = 10


@dataclass
class Answers:
    """What happened to calls: how long reads took, in seconds, and what failed.

    `again` counts failures of writes after which the client asked again; `failed` are those of reads, and writes that
    had no answer in the end.
    """

    took: list[float] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


class Clients:
    """They call by `channel` and keep what they did in `history` and `answers`."""

    def __init__(self, channel: grpc.aio.Channel, seed: int) -> None:
        self._stub = ProductServiceStub(channel)
        self._seed = seed
        self.history = History()
        self.answers = Answers()

    async def fill(self) -> None:
        """Put products into the catalog."""
        for number in range(PRODUCTS):
            category = CATEGORIES[number % len(CATEGORIES)]
            request = pb.CreateProductRequest(
                request_id=f"create-{number}",
                sku=f"SKU-{number}",
                name="0",
                category=category,
                price=Money(currency_code="EUR", units=1),
                initial_stock=1,
            )
            answer: pb.CreateProductResponse = await self._stub.CreateProduct(request, timeout=20.0)
            self.history.products[answer.product.id] = States.first(category, time.monotonic())

    async def work(self, seconds: float, rate: float) -> None:
        """Read so many times a second, and write a tenth as often."""
        until = time.monotonic() + seconds
        products = list(self.history.products)
        async with asyncio.TaskGroup() as clients:
            for number in range(WRITERS):
                clients.create_task(self._write(products[number::WRITERS], until, rate / 10 / WRITERS, number))
            for number in range(READERS):
                clients.create_task(self._read(products, until, rate / READERS, number))

    async def _write(self, products: Sequence[str], until: float, rate: float, writer: int) -> None:
        rng = Random(f"{self._seed}/writer {writer}")
        async for _ in _paced(rate, until, rng):
            product = rng.choice(products)
            states = self.history.products[product]
            moves = rng.random() < _MOVES
            category = rng.choice(CATEGORIES) if moves else states.categories[-1]
            number = states.begin(category, time.monotonic())
            change = pb.Product(id=product, name=str(number), category=category)
            request = pb.UpdateProductRequest(product=change, request_id=f"{product}-{number}")
            if not await self._insist(request, rng):
                return  # what became of this state is not known: nobody can write the next
            states.end(time.monotonic())

    async def _insist(self, request: pb.UpdateProductRequest, rng: Random) -> bool:
        gives_up = time.monotonic() + _GIVES_UP
        while True:
            try:
                await self._stub.UpdateProduct(request, timeout=_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN or time.monotonic() > gives_up:
                    self._fail("UpdateProduct", error)
                    return False
                self.answers.again[f"UpdateProduct {error.code().name}"] += 1
                await asyncio.sleep(rng.uniform(0.02, 0.2))
            else:
                return True

    async def _read(self, products: Sequence[str], until: float, rate: float, reader: int) -> None:
        rng = Random(f"{self._seed}/reader {reader}")
        async for _ in _paced(rate, until, rng):
            began = time.monotonic()
            kind, category = rng.random(), ""
            try:
                found: Sequence[pb.Product]
                if kind < 0.6:
                    found = [
                        (await self._call("GetProduct", pb.GetProductRequest(product_id=_one(products, rng)))).product
                    ]
                elif kind < 0.8:
                    ids = rng.sample(products, _MANY)
                    found = (await self._call("BatchGetProducts", pb.BatchGetProductsRequest(product_ids=ids))).products
                else:
                    category = rng.choice(CATEGORIES)
                    request = pb.ListProductsRequest(category=category, page_size=10 * PRODUCTS)
                    found = (await self._call("ListProducts", request)).products
            except grpc.aio.AioRpcError:
                continue
            ended = time.monotonic()
            self.answers.took.append(ended - began)
            self.history.reads.append(Read(began, ended, {one.id: int(one.name) for one in found}, category))

    async def _call(self, method: str, request: Any) -> Any:
        try:
            return await getattr(self._stub, method)(request, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            self._fail(method, error)
            raise

    def _fail(self, method: str, error: grpc.aio.AioRpcError) -> None:
        self.answers.failed.append(f"{method}: {error.code().name}: {error.details()}")


def _one(products: Sequence[str], rng: Random) -> str:
    """A product; the first ones are asked for most."""
    return products[int(len(products) * rng.random() ** 2)]


async def _paced(rate: float, until: float, rng: Random) -> Any:
    """One item at each moment at which something is to be done, on average `rate` times a second."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while time.monotonic() < until:
        due = max(due + rng.expovariate(rate), loop.time() - 1.0)
        await asyncio.sleep(max(0.0, due - loop.time()))
        yield None
