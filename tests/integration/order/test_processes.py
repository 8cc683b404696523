"""The order service as a process: killed with -9 while it records orders, and told to stop while it is watched."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from grpc_balancer import Channel
from grpc_registry import connect
from shop.order.v1 import order_pb2 as pb
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.product.v1 import product_pb2
from shop_services.product.servicer import ProductServicer
from shop_services.product.wiring import wire as wire_product
from shop_services.runtime.interceptor import Context
from shop_services.runtime.settings import Settings
from shop_services.user.wiring import wire as wire_user
from tests.identity import as_operator
from tests.integration.order.shop import create_product, create_user, served
from tests.servers import Etcd
from tests.servers.service import ServiceProcess

REQUESTS = 60

Watch = grpc.aio.UnaryStreamCall[pb.WatchOrderRequest, pb.WatchOrderResponse]


@dataclass
class Shop:
    """Users and products in this process, on a real registry; `start` starts an order service with one database."""

    settings: Settings
    processes: ExitStack
    orders: OrderServiceStub
    ann: str
    pen: str

    async def start(self, name: str) -> ServiceProcess:
        data = self.settings.data
        environment = {
            "REGISTRY_URL": self.settings.registry_url,
            "NATS_URL": "memory://",  # nobody handles what these orders cause
            "SHOP_DATA": str(data),
            "SHOP_PROPAGATION": "0.2",
        }
        process = ServiceProcess("order", data / name, environment)
        self.processes.callback(process.kill)
        return await asyncio.to_thread(process.start)

    async def create(self, request_id: str) -> pb.Order:
        items = [pb.CreateOrderItem(product_id=self.pen, quantity=1)]
        request = pb.CreateOrderRequest(request_id=request_id, user_id=self.ann, items=items)
        response: pb.CreateOrderResponse = await self.orders.CreateOrder(request, timeout=30, wait_for_ready=True)
        return response.order


def hold(monkeypatch: pytest.MonkeyPatch, is_held: Callable[[int], bool]) -> None:
    """Leave questions to the catalog of these numbers without an answer: who asked has an order in hand when killed."""
    answer = ProductServicer.BatchGetProducts
    asked = itertools.count()

    async def answered(
        self: ProductServicer, request: product_pb2.BatchGetProductsRequest, context: Context
    ) -> product_pb2.BatchGetProductsResponse:
        if is_held(next(asked)):
            await asyncio.Event().wait()
        return await answer(self, request, context)

    monkeypatch.setattr(ProductServicer, "BatchGetProducts", answered)


@pytest.fixture
async def shop(shared_etcd: Etcd, tmp_path: Path) -> AsyncIterator[Shop]:
    url = f"{shared_etcd.url}/{uuid4().hex}"
    settings = Settings(registry_url=url, data=tmp_path)
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(connect(url))
        for wire in (wire_user, wire_product):
            app = await stack.enter_async_context(wire(settings, registry))
            await stack.enter_async_context(served(app, registry))
        ann, pen = await create_user(registry, "ann"), await create_product(registry, settings, "Pen", 250)
        channel = await stack.enter_async_context(Channel("order", registry))
        yield Shop(
            settings, stack.enter_context(ExitStack()), OrderServiceStub(as_operator(channel, settings)), ann, pen
        )


async def version(call: Watch) -> int:
    """The version of the order that the watch tells next."""
    response = await call.read()
    assert isinstance(response, pb.WatchOrderResponse)
    return response.order.version


async def test_orders_of_a_killed_process_are_neither_lost_nor_doubled(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered is kept, what was not is made once by repeating it, and nothing else is there."""
    enough, killed = asyncio.Event(), asyncio.Event()
    hold(monkeypatch, lambda number: number >= REQUESTS // 2 and not killed.is_set())  # so that it is not too late
    answered: dict[str, pb.Order] = {}

    async def create(request_id: str) -> None:
        order = await shop.create(request_id)
        assert answered.setdefault(request_id, order) == order
        if len(answered) == REQUESTS // 3:
            enough.set()

    async def repeat(request_id: str) -> None:
        """Until it is answered: of so many at once a busy machine may tell some to try again."""
        async with asyncio.timeout(90):
            while True:
                try:
                    return await create(request_id)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise

    first = await shop.start("first")
    calls = [asyncio.create_task(create(f"r{i}")) for i in range(REQUESTS)]
    await asyncio.wait_for(enough.wait(), 30)
    first.kill()
    killed.set()
    await shop.start("second")
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    lost = [outcome for outcome in outcomes if outcome is not None]
    assert lost, "the process was killed too late to show anything"
    assert all(isinstance(error, grpc.aio.AioRpcError) for error in lost), lost
    await asyncio.gather(*(repeat(f"r{i}") for i in range(REQUESTS)))
    listed = (await shop.orders.ListOrders(pb.ListOrdersRequest(page_size=1000), timeout=20)).orders
    assert sorted(order.id for order in listed) == sorted(order.id for order in answered.values())
    assert len(answered) == REQUESTS


async def test_one_request_of_many_clients_across_a_crash_makes_one_order(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever repeats it, before, while and after the process is killed with -9, gets the same order."""
    hold(monkeypatch, lambda number: number == 0)  # so that the process is busy with one of them when it is killed
    answers: dict[str, set[str]] = {"r1": set(), "r2": set(), "r3": set()}
    failures = 0
    begun, killed = asyncio.Event(), asyncio.Event()

    async def client(request_id: str) -> None:
        nonlocal failures
        last_turn = False
        while not last_turn:
            last_turn = killed.is_set()
            try:
                answers[request_id].add((await shop.create(request_id)).id)
            except grpc.aio.AioRpcError:
                failures += 1
                last_turn = False
            if all(answers.values()):
                begun.set()

    first = await shop.start("first")
    clients = [asyncio.create_task(client(request_id)) for request_id in answers for _ in range(10)]
    await asyncio.wait_for(begun.wait(), 30)
    first.kill()
    await shop.start("second")
    killed.set()
    await asyncio.wait_for(asyncio.gather(*clients), 60)
    assert failures > 1, "the process was killed too late to show anything"
    assert [len(ids) for ids in answers.values()] == [1, 1, 1]
    listed = (await shop.orders.ListOrders(pb.ListOrdersRequest(page_size=1000), timeout=20)).orders
    assert {order.id for order in listed} == set.union(*answers.values())


async def test_a_process_that_is_told_to_stop_does_not_wait_for_watchers(shop: Shop) -> None:
    """SIGTERM ends a watch with a reason long before the grace of 20 s is over, and the watch goes on elsewhere."""
    first = await shop.start("first")
    order = await shop.create("r1")
    request = pb.WatchOrderRequest(order_id=order.id)
    call: Watch = shop.orders.WatchOrder(request, timeout=60, wait_for_ready=True)
    assert await version(call) == 1
    await asyncio.to_thread(first.stop)
    with pytest.raises(grpc.aio.AioRpcError, match="draining; watch again"):
        await call.read()
    await shop.start("second")
    again: Watch = shop.orders.WatchOrder(request, timeout=60, wait_for_ready=True)
    assert await version(again) == 1
    await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.id))
    assert await version(again) == 2
    assert await again.read() is grpc.aio.EOF
