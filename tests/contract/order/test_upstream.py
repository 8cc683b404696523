"""Users, products and stock answer the same in memory and by RPC, where they are the real services on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.type.money_pb2 import Money as MoneyMessage

from grpc_registry import connect
from shop.product.v1 import inventory_pb2
from shop.product.v1 import product_pb2 as pb
from shop.product.v1.inventory_pb2_grpc import InventoryServiceStub
from shop_services.order.domain import Line, Product
from shop_services.order.upstream import (
    Catalog,
    InventoryService,
    ProductService,
    Stock,
    StockRefused,
    Users,
    UserService,
)
from shop_services.product.inventory_domain import Stock as Counts
from shop_services.product.wiring import wire as wire_product
from shop_services.runtime.app import App
from shop_services.runtime.context import RequestContext, enter
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.interceptor import Context
from shop_services.runtime.money import Money
from shop_services.runtime.outgoing import OutgoingChannel, service_channel
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import running
from shop_services.user.wiring import wire as wire_user
from tests.identity import as_operator
from tests.integration.order.shop import create_product, create_user, served
from tests.unit.services.order.fake_stock import FakeStock
from tests.unit.services.order.known import KnownProducts, KnownUsers


@dataclass
class Upstream:
    """Users and products, and how a test adds some, or takes them away."""

    users: Users
    catalog: Catalog
    stock: Stock
    add_user: Callable[[], Awaitable[str]]
    add_product: Callable[[str, int], Awaitable[str]]
    fill: Callable[[str, int], Awaitable[None]]
    go_away: Callable[[], Awaitable[None]]


@asynccontextmanager
async def in_memory(_data: Path) -> AsyncIterator[Upstream]:
    users, products, stock = KnownUsers("ann"), KnownProducts(), FakeStock()

    async def add_user() -> str:
        return "ann"

    async def add_product(name: str, hundredths: int) -> str:
        products.add(name.lower(), hundredths, name=name)
        return name.lower()

    async def go_away() -> None:
        users.away = products.away = stock.away = True

    async def fill(product_id: str, count: int) -> None:
        stock.stock[product_id] = Counts(product_id, count, 0, 0)

    yield Upstream(users, products, stock, add_user, add_product, fill, go_away)


@asynccontextmanager
async def by_rpc(data: Path) -> AsyncIterator[Upstream]:
    settings = Settings(data=data, nats_url="memory://")
    async with connect("memory://") as registry, AsyncExitStack() as clients, AsyncExitStack() as servers:
        for wire in (wire_user, wire_product):
            app = await servers.enter_async_context(wire(settings, registry))
            await servers.enter_async_context(served(app, registry))
        as_order = Authority.open(settings, "order")
        user, product = [
            await clients.enter_async_context(service_channel(name, registry, settings, as_order))
            for name in ("user", "product")
        ]
        catalog, stock = ProductService(product), InventoryService(product)

        async def fill(product_id: str, count: int) -> None:
            request = inventory_pb2.AdjustStockRequest(product_id=product_id, delta=count)
            await InventoryServiceStub(as_operator(product, settings)).AdjustStock(request)

        add_user, add_product = partial(create_user, registry, "ann"), partial(create_product, registry, settings)
        yield Upstream(UserService(user), catalog, stock, add_user, add_product, fill, servers.aclose)


@pytest.fixture(params=[in_memory, by_rpc], ids=["memory", "rpc"])
async def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Upstream]:
    async with request.param(tmp_path) as made:
        yield made


async def test_only_users_that_exist_exist(upstream: Upstream) -> None:
    """An id that no user has is an answer, not an error."""
    assert await upstream.users.exists(await upstream.add_user())
    assert not await upstream.users.exists("nobody")


async def test_products_are_found_by_id_with_name_and_price(upstream: Upstream) -> None:
    """Those that do not exist are left out, and prices are exact."""
    pen, ink = await upstream.add_product("Pen", 250), await upstream.add_product("Ink", 100_000_000_000)
    assert await upstream.catalog.products([ink, "nothing", pen]) == {
        pen: Product(pen, "Pen", Money("EUR", 250)),
        ink: Product(ink, "Ink", Money("EUR", 100_000_000_000)),
    }


async def test_who_cannot_be_asked_is_unavailable(upstream: Upstream) -> None:
    """It is neither an unknown user nor an empty catalog."""
    await upstream.go_away()
    with pytest.raises(Unavailable, match="user service cannot be asked"):
        await upstream.users.exists("ann")
    with pytest.raises(Unavailable, match="product service cannot be asked"):
        await upstream.catalog.products(["pen"])
    with pytest.raises(Unavailable, match="stock cannot be asked"):
        await upstream.stock.release("o1")


@pytest.fixture
async def pen(upstream: Upstream) -> str:
    """A product of which there are three."""
    made = await upstream.add_product("Pen", 250)
    await upstream.fill(made, 3)
    return made


async def test_stock_is_reserved_and_committed_once(upstream: Upstream, pen: str) -> None:
    """Both can be repeated; another order gets what is left, and not more."""
    stock = upstream.stock
    for _ in range(2):
        await stock.reserve("o1", [Line(pen, 2)])
    for _ in range(2):
        await stock.commit("o1")
    with pytest.raises(StockRefused, match=rf"not enough stock: product '{pen}': asked 2, left 1"):
        await stock.reserve("o2", [Line(pen, 2)])
    await stock.reserve("o3", [Line(pen, 1)])


async def test_released_stock_is_there_for_others(upstream: Upstream, pen: str) -> None:
    """It can be repeated, and the order itself gets nothing any more."""
    stock = upstream.stock
    await stock.reserve("o1", [Line(pen, 3)])
    for _ in range(2):
        await stock.release("o1")
    await stock.reserve("o2", [Line(pen, 3)])
    for refused in (stock.reserve("o1", [Line(pen, 3)]), stock.commit("o1")):
        with pytest.raises(StockRefused, match="it was released before"):
            await refused


async def test_a_release_keeps_a_late_reservation_out(upstream: Upstream, pen: str) -> None:
    """Also where nothing was reserved before."""
    await upstream.stock.release("o1")
    with pytest.raises(StockRefused, match="it was released before"):
        await upstream.stock.reserve("o1", [Line(pen, 1)])


async def test_sold_stock_is_not_released(upstream: Upstream, pen: str) -> None:
    """Whoever comes first to the reservation decides."""
    await upstream.stock.reserve("o1", [Line(pen, 1)])
    await upstream.stock.commit("o1")
    with pytest.raises(StockRefused, match="it was committed before"):
        await upstream.stock.release("o1")


async def test_what_is_not_there_is_refused(upstream: Upstream) -> None:
    """A product that is gone, and a commit of what nobody reserved."""
    with pytest.raises(StockRefused, match="there is no product 'nothing'"):
        await upstream.stock.reserve("o1", [Line("nothing", 1)])
    with pytest.raises(StockRefused, match="there is no reservation 'o2'"):
        await upstream.stock.commit("o2")


class Scripted:
    """A catalog that answers what it is told, or never; and keeps what it was asked."""

    def __init__(self, response: pb.BatchGetProductsResponse | None = None) -> None:
        self.response = response
        self.requests: list[list[str]] = []
        self.deadlines: list[float] = []

    async def batch_get(self, request: pb.BatchGetProductsRequest, context: Context) -> pb.BatchGetProductsResponse:
        self.requests.append(list(request.product_ids))
        self.deadlines.append(context.time_remaining() or -1)
        if self.response is None:
            await asyncio.Event().wait()
        assert self.response is not None
        return self.response

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(
            self.batch_get,
            request_deserializer=pb.BatchGetProductsRequest.FromString,
            response_serializer=pb.BatchGetProductsResponse.SerializeToString,
        )
        service = "shop.product.v1.ProductService"
        server.add_registered_method_handlers(service, {"BatchGetProducts": handler})

    def app(self) -> App:
        return App("product", {"shop.product.v1.ProductService": self.add_to})


async def test_a_hundred_products_are_one_call() -> None:
    """The catalog is asked once, for all ids in their order."""
    scripted = Scripted(pb.BatchGetProductsResponse())
    ids = [f"p{i}" for i in range(100)]
    async with running(scripted.app()) as channel:
        assert await ProductService(OutgoingChannel(channel)).products(ids) == {}
    assert scripted.requests == [ids]


async def test_the_catalog_is_given_no_longer_than_our_caller_gives_us() -> None:
    """The deadline of the call being served goes along, and its end is the end of the waiting."""
    scripted = Scripted()
    async with running(scripted.app()) as channel:
        loop = asyncio.get_running_loop()
        enter(RequestContext("r1", "/shop.order.v1.OrderService/CreateOrder", deadline=loop.time() + 3.5))
        with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
            await ProductService(OutgoingChannel(channel)).products(["p1"])
    assert 0 < scripted.deadlines[0] < 4  # gRPC rounds up; its own would be 5


@pytest.mark.parametrize("price", [MoneyMessage(currency_code="EUR", nanos=1), MoneyMessage(units=1)])
async def test_a_price_that_is_none_is_a_defect_of_the_catalog(price: MoneyMessage) -> None:
    """It is no fault of the caller's, who is not told INVALID_ARGUMENT."""
    product = pb.Product(id="p1", name="Pen", price=price)
    scripted = Scripted(pb.BatchGetProductsResponse(products=[product]))
    async with running(scripted.app()) as channel:
        with pytest.raises(ValueError, match="'p1' has no usable price"):
            await ProductService(OutgoingChannel(channel)).products(["p1"])
