"""Mode `behind` on real servers: product processes, NATS, SQLite and PostgreSQL, each of them killed in turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa

from shop.product.v1 import product_pb2 as pb
from shop_services.product import tables
from shop_services.runtime.settings import Settings
from shop_services.storage import Database
from tests.elapsed import measured
from tests.identity import as_operator
from tests.integration.product.shop import TIMEOUT, Shop, euros, failure, take
from tests.servers import Nats, Postgres
from tests.servers.service import ServiceProcess

STALENESS = 1.0
"""Seconds: the bound that these processes are told to keep."""
SOON = 20.0
"""Seconds after which all that is pending must be written, once everything is there again: it takes three, but what
was overlooked would be tried again after thirty. Those in which this process stood still do not count."""

Code = grpc.StatusCode


class Site:
    """A database and a NATS server, and product processes over them."""

    def __init__(self, directory: Path, database_url: str, nats: Nats, stack: AsyncExitStack) -> None:
        self.database_url = database_url
        self.nats = nats
        self._directory = directory
        self._stack = stack
        self._started = 0

    async def start(self) -> tuple[Shop, ServiceProcess]:
        """Another process, and calls of it."""
        self._started += 1
        environment = {
            "REGISTRY_URL": "memory://",
            "DATABASE_URL": self.database_url,
            "NATS_URL": self.nats.url,
            "CATALOG_CACHE": "behind",
            "SHOP_CATALOG_STALENESS": str(STALENESS),
            "SHOP_PROPAGATION": "0",
            "SHOP_DATA": str(self._directory),
        }
        process = ServiceProcess("product", self._directory / f"p{self._started}", environment)
        self._stack.callback(process.kill)
        await asyncio.to_thread(process.start)
        channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(_address(process)))
        return Shop(as_operator(channel, Settings(data=self._directory))), process

    async def names(self) -> dict[str, str]:
        """The names of all products that the database has, by SKU."""
        async with Database(self.database_url, service="test") as database, database.reading() as connection:
            return {row.sku: row.name for row in await connection.execute(sa.select(tables.products))}

    async def will_have(self, expected: dict[str, str]) -> None:
        """Wait until the database has these products, and no others."""

        async def written() -> bool:
            return await self.names() == expected

        await _until(written)


@pytest.fixture(params=["sqlite", "postgresql"])
async def site(request: pytest.FixtureRequest, tmp_path: Path, nats: Nats) -> AsyncIterator[Site]:
    """A site with an empty database."""
    url = f"sqlite:///{tmp_path / 'product.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    async with AsyncExitStack() as stack:
        yield Site(tmp_path, url, nats, stack)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that the test may stop."""
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.remove()


async def test_what_was_answered_survives_kill_9(site: Site) -> None:
    """Processes are killed right after their answers, again and again: what they acknowledged is read at another one
    within the bound, and is written."""
    survivor, _ = await site.start()
    expected: dict[str, str] = {}
    ids: dict[str, str] = {}
    for sku in ("A", "B", "C", "D"):
        ids[sku] = (await survivor.create(sku)).id
    for round_ in range(3):
        victim, process = await site.start()
        updates = [victim.update(product_id, name=f"{sku}{round_}") for sku, product_id in ids.items()]
        answers = await asyncio.gather(*updates)
        await asyncio.to_thread(process.kill)
        for sku, answer in zip(list(ids), answers, strict=True):
            expected[sku] = f"{sku}{round_}"
            assert answer.name == expected[sku]
        await asyncio.sleep(STALENESS)
        found = await survivor.products.BatchGetProducts(
            pb.BatchGetProductsRequest(product_ids=list(ids.values())), timeout=TIMEOUT
        )
        assert [product.etag for product in found.products] == [answer.etag for answer in answers]
        if round_ == 1:
            await survivor.delete(ids["D"], etag=answers[3].etag)
            del ids["D"], expected["D"]
    await site.will_have(expected)


async def test_a_process_alone_finds_what_it_left(site: Site) -> None:
    """The only process is killed between answer and write; started again it shows the change, and writes it."""
    first, process = await site.start()
    product = await first.create("A", name="old")
    etag = (await first.update(product.id, name="new", price=euros(7))).etag
    await asyncio.to_thread(process.kill)
    second, _ = await site.start()
    found = await second.products.GetProduct(pb.GetProductRequest(product_id=product.id), timeout=TIMEOUT)
    assert (found.product.name, found.product.price, found.product.etag) == ("new", euros(7), etag)
    await site.will_have({"A": "new"})
    assert (await second.update(product.id, name="newer")).name == "newer"


async def test_a_request_id_holds_over_a_death(site: Site) -> None:
    """A request that is repeated at another process, before and after its change is written, gets its first reply."""
    other, _ = await site.start()
    product = await other.create("A")
    first, process = await site.start()
    request = pb.UpdateProductRequest(product=pb.Product(id=product.id, name="new"), request_id="r1")
    reply = await first.products.UpdateProduct(request, timeout=TIMEOUT)
    await asyncio.to_thread(process.kill)
    assert await other.products.UpdateProduct(request, timeout=TIMEOUT) == reply
    await other.update(product.id, name="newer")
    await site.will_have({"A": "newer"})
    third, _ = await site.start()
    assert await third.products.UpdateProduct(request, timeout=TIMEOUT) == reply
    await site.will_have({"A": "newer"})


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
async def test_lists_show_what_is_pending(site: Site) -> None:
    """A list has the new state of a product as soon as the product itself, not the product that left its category, and
    the one that entered once that is written."""
    shop, _ = await site.start()
    pen, ink = await shop.create("A", category="office"), await shop.create("B", category="office")
    await shop.update(pen.id, name="new")
    assert [product.name for product in (await shop.list("office")).products] == ["new", ink.name]
    await shop.update(pen.id, category="gifts")
    assert [product.id for product in (await shop.list("office")).products] == [ink.id]
    assert [product.category for product in (await shop.list()).products] == ["gifts", "office"]
    await shop.delete(ink.id)
    assert not (await shop.list("office")).products

    async def entered() -> bool:
        return [product.id for product in (await shop.list("gifts")).products] == [pen.id]

    await _until(entered)


async def test_changes_wait_for_nats_and_nothing_acknowledged_is_lost(site: Site) -> None:
    """NATS is killed under load and started again: calls fail meanwhile, or wait, and what was answered holds."""
    shops = [(await site.start())[0] for _ in range(2)]
    ids = {sku: (await shops[0].create(sku)).id for sku in ("A", "B", "C")}
    acknowledged = dict.fromkeys(ids, 0)
    stop = asyncio.Event()

    async def write(sku: str, shop: Shop) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                await shop.update(ids[sku], name=f"{sku}-{number}")
            except grpc.aio.AioRpcError as error:
                if error.code() is not Code.UNAVAILABLE:
                    raise
            else:
                acknowledged[sku] = number
            await asyncio.sleep(0.01)

    writers = [asyncio.create_task(write(sku, shops[index % 2])) for index, sku in enumerate(ids)]
    for _ in range(2):
        await asyncio.sleep(0.5)
        await asyncio.to_thread(site.nats.kill)
        await asyncio.sleep(0.5)
        before = dict(acknowledged)
        await asyncio.to_thread(site.nats.start)

        async def all_go_on(before: dict[str, int] = before) -> bool:
            return all(acknowledged[sku] > before[sku] for sku in ids)

        await _until(all_go_on)
    stop.set()
    await asyncio.gather(*writers)
    await asyncio.sleep(STALENESS)
    for shop in shops:
        for sku, product_id in ids.items():
            found = await shop.products.GetProduct(pb.GetProductRequest(product_id=product_id), timeout=TIMEOUT)
            assert int(found.product.name.removeprefix(f"{sku}-")) >= acknowledged[sku]
    for sku, product_id in ids.items():
        await shops[0].update(product_id, name=sku)
    await site.will_have({sku: sku for sku in ids})


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
async def test_a_read_that_cannot_know_is_refused(site: Site) -> None:
    """While NATS is away for longer than the bound, reads fail rather than miss what others may have changed."""
    shop, _ = await site.start()
    product = await shop.create("A")
    await asyncio.to_thread(site.nats.kill)
    await asyncio.sleep(STALENESS)
    failed = await failure(shop.products.GetProduct(pb.GetProductRequest(product_id=product.id), timeout=TIMEOUT))
    assert failed.code is Code.UNAVAILABLE
    assert "log of pending changes" in failed.message
    await asyncio.to_thread(site.nats.start)

    async def answered() -> bool:
        try:
            await shop.products.GetProduct(pb.GetProductRequest(product_id=product.id), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() is not Code.UNAVAILABLE:
                raise
            return False
        return True

    await _until(answered)


async def test_changes_are_answered_while_the_database_is_away(
    own_postgres: Postgres, nats: Nats, tmp_path: Path
) -> None:
    """PostgreSQL is stopped for seconds: products that changed lately go on changing, with the right answers at every
    process, and all is written when it is back, as one change each."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(own_postgres.database())
        site = Site(tmp_path, url, nats, stack)
        one, other = (await site.start())[0], (await site.start())[0]
        ids = {sku: (await one.create(sku)).id for sku in ("A", "B", "C")}
        for product_id in ids.values():
            await one.update(product_id, name="before")
        await site.will_have(dict.fromkeys(ids, "before"))
        await asyncio.to_thread(own_postgres.stop)
        etags = {}
        for number in range(20):
            for sku, product_id in ids.items():
                etags[sku] = (await one.update(product_id, name=f"{sku}-{number}")).etag
        await asyncio.sleep(STALENESS)
        for sku, product_id in ids.items():
            found = await other.products.GetProduct(pb.GetProductRequest(product_id=product_id), timeout=TIMEOUT)
            assert (found.product.name, found.product.etag) == (f"{sku}-19", etags[sku])
        await other.update(ids["B"], name="B-20", etag=etags["B"])
        await one.delete(ids["C"], etag=etags["C"])
        await asyncio.sleep(2)
        await asyncio.to_thread(own_postgres.start)
        await site.will_have({"A": "A-19", "B": "B-20"})
        changes = await take(await one.watch(after=6), 3)  # after three creations and three changes
        assert sorted(change.product.name for change in changes) == ["A-19", "B-20", "before"]


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return when something holds. It is asked ten times a second, for as long as may be needed."""
    async with measured() as elapsed:
        while not await holds():
            assert elapsed.seconds < SOON, f"{holds.__name__}: not within {SOON} s"
            await asyncio.sleep(0.1)


def _address(process: ServiceProcess) -> str:
    for line in process.log.read_text().splitlines():
        if '"listening"' in line:
            return str(json.loads(line)["address"])
    raise AssertionError(f"{process!r} does not listen")
