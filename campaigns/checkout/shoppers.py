"""The clients: each repeats a request, with the same id, until it has an answer; some change their mind.

A call that failed may have done its work or not; the client cannot know, and asks again. What it must never get is
another order for the same request, or an answer that blames it for something.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

import grpc
import grpc.aio

from campaigns.checkout.plan import Cancellation, Purchase
from shop.order.v1 import order_pb2 as pb
from shop.order.v1.order_pb2_grpc import OrderServiceStub

CLIENTS = 32
"""Purchases in progress at once, at most."""

_TIMEOUT = 8.0
_GIVES_UP = 120.0
_WATCHES = 8.0
_LEAST_PAUSE, _MOST_PAUSE = 0.05, 0.6
_AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_RANKS = {"PENDING": 0, "PROCESSING": 1, "PAID": 2}
_ENDED = 3

T = TypeVar("T")


@dataclass
class Answers:
    """What the shop said: by request id the orders it named; by order id whether its cancellation was accepted.

    `failures` counts answers after which the client asked again; `wrong` are those that nobody should get. `took` is
    how long each order took from the first call until the answer, in seconds.
    """

    orders: dict[str, set[str]] = field(default_factory=dict)
    cancelled: dict[str, bool] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    took: list[float] = field(default_factory=list)


class NoAnswer(Exception):
    """The shop gave no answer that a client can use; it is among the `wrong` ones."""


class Shoppers:
    """`users` and `products` are the ids of those that the plan names by number. Calls go by `channel`."""

    def __init__(
        self, channel: grpc.aio.Channel, users: Sequence[str], products: Sequence[str], seed: int, answers: Answers
    ) -> None:
        self._stub = OrderServiceStub(channel)
        self._users = users
        self._products = products
        self._seed = seed
        self._answers = answers

    async def shop(self, purchases: Sequence[Purchase], rate: float) -> None:
        """Make all purchases, at most so many a second and `CLIENTS` at once; return when all were answered."""
        free = asyncio.Semaphore(CLIENTS)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as clients:

            async def client(purchase: Purchase) -> None:
                try:
                    await self._buy(purchase)
                except NoAnswer as error:
                    self._answers.wrong.append(str(error))
                finally:
                    free.release()

            for number, purchase in enumerate(purchases):
                await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
                await free.acquire()
                clients.create_task(client(purchase))

    async def _buy(self, purchase: Purchase) -> None:
        request = pb.CreateOrderRequest(
            request_id=purchase.request_id,
            user_id=self._users[purchase.user],
            items=[pb.CreateOrderItem(product_id=self._products[n], quantity=q) for n, q in purchase.items.items()],
            payment_method=purchase.card,
        )
        rng = Random(f"{self._seed}/{purchase.request_id}")

        async def create() -> str:
            answer: pb.CreateOrderResponse = await self._insist(self._stub.CreateOrder, request, rng)
            self._answers.orders.setdefault(purchase.request_id, set()).add(answer.order.id)
            return answer.order.id

        began = time.monotonic()
        order_id, *_ = await asyncio.gather(*(create() for _ in range(purchase.copies)))
        self._answers.took.append(time.monotonic() - began)
        if purchase.cancellation:
            await self._call_off(order_id, purchase.cancellation, rng)
        if purchase.late:
            await create()

    async def _call_off(self, order_id: str, cancellation: Cancellation, rng: Random) -> None:
        await self._seen(order_id, cancellation.status)
        await asyncio.sleep(cancellation.delay)
        request = pb.CancelOrderRequest(order_id=order_id, reason="changed my mind", request_id=f"cancel-{order_id}")
        try:
            await self._insist(self._stub.CancelOrder, request, rng, refusal=grpc.StatusCode.FAILED_PRECONDITION)
        except Refused:
            self._answers.cancelled[order_id] = False
        else:
            self._answers.cancelled[order_id] = True

    async def _seen(self, order_id: str, status: str) -> None:
        """Return when the order was seen to have come as far as `status`, or after a while in any case."""
        try:
            async for seen in self._stub.WatchOrder(pb.WatchOrderRequest(order_id=order_id), timeout=_WATCHES):
                name = pb.OrderStatus.Name(seen.order.status).removeprefix("ORDER_STATUS_")
                if _RANKS.get(name, _ENDED) >= _RANKS[status]:
                    return
        except grpc.aio.AioRpcError as error:  # a watch may break at any time: then the moment is another
            self._answers.failures[f"WatchOrder {error.code().name}"] += 1

    async def _insist(
        self,
        method: Callable[..., Awaitable[T]],
        request: object,
        rng: Random,
        refusal: grpc.StatusCode | None = None,
    ) -> T:
        """Call until there is an answer. Raises `Refused` if it is `refusal`, and `NoAnswer`."""
        until = time.monotonic() + _GIVES_UP
        name = type(request).__name__.removesuffix("Request")
        while True:
            try:
                return await method(request, timeout=_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                if error.code() is refusal:
                    raise Refused from None
                described = f"{name}: {error.code().name}: {error.details()}"
                if error.code() not in _AGAIN or time.monotonic() > until:
                    raise NoAnswer(described) from None
                self._answers.failures[f"{name} {error.code().name}"] += 1
            await asyncio.sleep(rng.uniform(_LEAST_PAUSE, _MOST_PAUSE))


class Refused(Exception):
    """The shop says that it cannot be done, which is an answer."""
