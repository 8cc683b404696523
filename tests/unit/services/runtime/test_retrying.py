"""Which calls between the services are retried: what the protos say of them, and that the channels obey it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions

from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot
from shop.cache.v1 import cache_pb2
from shop.order.v1 import order_pb2
from shop.payment.v1 import payment_pb2
from shop.product.v1 import inventory_pb2, product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceServicer, ProductServiceStub
from shop.product.v1.product_pb2_grpc import add_ProductServiceServicer_to_server as add_to_server
from shop.user.v1 import user_pb2
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.outgoing import service_channel
from shop_services.runtime.retrying import idempotent_methods, service_config
from shop_services.runtime.settings import Settings

METHODS: dict[str, MethodDescriptor] = {
    f"{service.full_name}/{method.name}": method
    for file in (user_pb2, product_pb2, inventory_pb2, order_pb2, cache_pb2, payment_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def level(name: str) -> int:
    return int(METHODS[name].GetOptions().idempotency_level)


@pytest.mark.parametrize("name", METHODS)
def test_reading_has_no_side_effects(name: str) -> None:
    """The RPCs that are marked as without side effects are those that are named for reading."""
    reads = name.rpartition("/")[2].startswith(("Get", "BatchGet", "List", "Watch"))
    assert (level(name) == MethodOptions.NO_SIDE_EFFECTS) is reads


def test_the_mutations_that_may_be_repeated() -> None:
    """Marked as idempotent are those by order id or key, by a request id that is required, and some by their nature."""
    assert {name.partition(".v1.")[2] for name in METHODS if level(name) == MethodOptions.IDEMPOTENT} == {
        "InventoryService/ReserveStock",
        "InventoryService/ReleaseStock",
        "InventoryService/CommitStock",
        "OrderService/CreateOrder",
        "CacheService/Set",
        "CacheService/Delete",
        "CacheService/Clear",
        "CacheService/BatchSet",
        "CacheService/BatchDelete",
        "PaymentService/AuthorizePayment",
        "PaymentService/CapturePayment",
        "PaymentService/RefundPayment",
        "PaymentSimulatorService/SetFaults",
        "UserService/Logout",
    }


@pytest.mark.parametrize("name", [name for name in METHODS if "request_id" in METHODS[name].input_type.fields_by_name])
def test_an_optional_request_id_makes_nothing_idempotent(name: str) -> None:
    """A mutation with a request id is marked if and only if the id cannot be empty."""
    field = METHODS[name].input_type.fields_by_name["request_id"]
    required = field.GetOptions().Extensions[validate_pb2.field].string.min_len > 0
    assert (level(name) == MethodOptions.IDEMPOTENT) is required


def test_unmarked_methods_are_left_alone() -> None:
    """Only a level that is written down counts."""
    file = FileDescriptorProto(package="p.v1")
    service = file.service.add(name="S")
    service.method.add(name="Unmarked")
    service.method.add(name="Read").options.idempotency_level = MethodOptions.NO_SIDE_EFFECTS
    service.method.add(name="Put").options.idempotency_level = MethodOptions.IDEMPOTENT
    assert idempotent_methods([file]) == [
        {"service": "p.v1.S", "method": "Read"},
        {"service": "p.v1.S", "method": "Put"},
    ]


def test_the_config_names_every_marked_method() -> None:
    """Whatever service a channel is to, its config has the methods of all."""
    (entry,) = service_config()["methodConfig"]
    named = {f"{name['service']}/{name['method']}" for name in entry["name"]}
    assert named == {name for name in METHODS if level(name) != MethodOptions.IDEMPOTENCY_UNKNOWN}


class Unsteady(ProductServiceServicer):
    """Fails every first call of a method, as a server that is stopping does."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code
        self.seen: list[tuple[str, str | None]] = []

    async def _fail_first(self, method: str, context: Any) -> None:
        attempts = dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts")
        self.seen.append((method, attempts))
        if attempts is None:
            await context.abort(self.code, "stopping")

    async def GetProduct(self, request: Any, context: Any) -> product_pb2.GetProductResponse:
        await self._fail_first("GetProduct", context)
        return product_pb2.GetProductResponse(product=product_pb2.Product(id=request.product_id))

    async def CreateProduct(self, request: Any, context: Any) -> product_pb2.CreateProductResponse:
        await self._fail_first("CreateProduct", context)
        return product_pb2.CreateProductResponse()


@pytest.fixture(params=[grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED], ids=lambda code: str(code.name))
async def unsteady(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Unsteady, ManualResolver]]:
    """A product service, and the registry that knows it."""
    servicer = Unsteady(request.param)  # type: ignore[abstract]  # the other methods are not called
    server, registry = grpc.aio.server(), ManualResolver()
    add_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    registry.push(Snapshot("product", 1, (Instance("product", f"127.0.0.1:{port}"),)))
    yield servicer, registry
    await server.stop(None)


async def test_a_service_channel_retries_what_is_marked(unsteady: tuple[Unsteady, ManualResolver]) -> None:
    """A read that a stopping server fails is made again; a creation, which may have happened, is not."""
    servicer, registry = unsteady
    async with service_channel("product", registry, Settings(), Authority.in_memory("order")) as channel:
        stub = ProductServiceStub(channel)
        found = await stub.GetProduct(product_pb2.GetProductRequest(product_id="p"))
        assert found.product.id == "p"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CreateProduct(product_pb2.CreateProductRequest(name="n"))
        assert caught.value.code() is servicer.code
    assert servicer.seen == [("GetProduct", None), ("GetProduct", "1"), ("CreateProduct", None)]
