"""The chapters in which something goes wrong, and the shopper should not notice, or be told precisely."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import grpc

from grpc_registry import Registry, Snapshot
from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.demo.shopping import log_in, message
from shop_services.demo.stage import JsonObject, Stage
from shop_services.demo.story import Failed, check, stopwatch

_SHOPPERS = 4
_PAUSE = 0.005
_CALLS = 200
_BACK_SECONDS = 60.0


class Tally:
    """What became of the calls: how many ended, what the slowest took (seconds), how the first one failed that did."""

    def __init__(self) -> None:
        self.calls = 0
        self.slowest = 0.0
        self.failure = ""
        self._goal = 0
        self._reached = asyncio.Event()

    def count(self, seconds: float, failure: str = "") -> None:
        """Another call has ended."""
        self.calls += 1
        self.slowest = max(self.slowest, seconds)
        self.failure = self.failure or failure
        if self.calls >= self._goal or self.failure:
            self._reached.set()

    async def more(self, calls: int) -> None:
        """Return when so many more calls have ended, or one has failed."""
        self._goal = self.calls + calls
        if not self.failure:
            self._reached.clear()
            await self._reached.wait()


async def lose_an_instance(stage: Stage) -> None:
    """A product instance is killed while others shop. Nobody is left without an answer, and it is started again.

    A call that the instance was answering when it died is lost with it. The channel makes it again at another one,
    since the service config, made of the protos, says that a look at a product may be repeated.
    """
    tally = Tally()
    async with stage.as_ada("product") as channel:
        known = await _instances(stage.registry)
        shoppers = [asyncio.create_task(_shop(channel, stage.product["id"], tally)) for _ in range(_SHOPPERS)]
        try:
            async with asyncio.timeout(_BACK_SECONDS):
                await tally.more(_CALLS)
                pid, before = stage.kill("product"), tally.calls
                with stopwatch() as elapsed:
                    stage.story.note(f"kill -9 {pid}, an instance of product, after {before} calls")
                    await _newcomer(stage.registry, known)
                    back = elapsed()
                    await tally.more(_CALLS)
        except TimeoutError:
            raise Failed(f"no instance of product came back within {_BACK_SECONDS:.0f} s") from None
        finally:
            for shopper in shoppers:
                shopper.cancel()
            await asyncio.gather(*shoppers, return_exceptions=True)
    check(not tally.failure, f"a call failed: {tally.failure}")
    outcome = "0 failed; the time is the slowest one's"
    stage.story.did(f"{tally.calls - before} GetProduct since", outcome, tally.slowest)
    stage.story.note(f"`shop up` had a new instance registered {back:.1f} s after the kill")


async def make_mistakes(stage: Stage) -> None:
    """Wrong input is answered with the field that is wrong, or the thing that does not exist."""
    account = {"email": "ada at home", "username": "x", "password": "secret"}
    await stage.http("POST", "/v1/users", account, status=400, outcome=_fields)
    taken = {"email": stage.user["email"], "username": f"eve-{stage.token}", "password": "also a good one"}
    await stage.http("POST", "/v1/users", taken, status=409, outcome=message)
    await stage.http("GET", "/v1/products/no-such-product", status=404, outcome=message)
    greedy = {
        "requestId": f"greedy-{stage.token}",
        "userId": stage.user["id"],
        "items": [{"productId": stage.product["id"], "quantity": "0"}],
    }
    await stage.http("POST", "/v1/orders", greedy, status=400, outcome=_fields)
    reserve = {"orderId": f"bulk-{stage.token}", "items": [{"productId": stage.product["id"], "quantity": "1000000"}]}
    await stage.http("POST", "/v1/stock:reserve", reserve, status=400, token=stage.operator, outcome=message)


async def keep_strangers_out(stage: Stage) -> None:
    """Without a token nothing of Ada's is shown; with Eve's it does not exist; and neither of them runs the shop."""
    order, product = f"/v1/orders/{stage.order['id']}", f"/v1/products/{stage.product['id']}"
    await stage.http("GET", order, status=401, token="", outcome=message)
    forged = f"{stage.access[:-4]}zzzg"  # no signature ends so: its last byte is 16 at most
    await stage.http("GET", order, status=401, token=forged, outcome=message)
    name, password = f"eve-{stage.token}", "an eavesdropper's own"
    account = {"email": f"{name}@shop.example", "username": name, "password": password}
    await stage.http("POST", "/v1/users", account, token="", outcome=lambda body: f"user {body['user']['id']}")
    eve = await log_in(stage, name, password)
    await stage.http("GET", order, status=404, token=eve["accessToken"], outcome=message)
    await stage.http("POST", f"{order}:cancel", {}, status=404, token=eve["accessToken"], outcome=message)
    path = f"/v1/orders?userId={stage.user['id']}"
    await stage.http("GET", path, status=403, token=eve["accessToken"], outcome=message)
    await stage.http("PATCH", product, {"name": "Free"}, status=403, outcome=message)


async def _shop(channel: grpc.aio.Channel, product_id: str, tally: Tally) -> None:
    stub, request = ProductServiceStub(channel), product_pb2.GetProductRequest(product_id=product_id)
    while not tally.failure:
        with stopwatch() as elapsed:
            try:
                await stub.GetProduct(request, timeout=5)
            except grpc.aio.AioRpcError as error:
                tally.count(elapsed(), f"{error.code().name}: {error.details()}")
            else:
                tally.count(elapsed())
        await asyncio.sleep(_PAUSE)


async def _instances(registry: Registry) -> set[str]:
    return {listing.instance.id for listing in await registry.list("product")}


async def _newcomer(registry: Registry, known: set[str]) -> None:
    async with aclosing(registry.watch("product")) as resolutions:
        async for resolution in resolutions:
            if isinstance(resolution, Snapshot) and any(i.id not in known for i in resolution.instances):
                return


def _fields(body: JsonObject) -> str:
    """The violations in an error's details: "email: must be a valid email address; …"."""
    violations = [
        f"{violation['field']}: {violation['description']}"
        for detail in body.get("details", [])
        for violation in detail.get("fieldViolations", [])
    ]
    check(bool(violations), f"the error names no field: {body}")
    return "; ".join(violations)
