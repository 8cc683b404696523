"""Every RPC, called by everybody, by gRPC and over HTTP: who may is answered, and who may not is refused.

Who may what is written down here once more, and by hand: the protos are what is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shop_services.runtime.identity.caller import Role
from tests.integration.identity.calling import OK, ROUTES, RPCS, by_grpc, by_http, served_by
from tests.integration.identity.requests import MAKERS
from tests.integration.identity.shop import SERVICES, Metadata, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = "UNAUTHENTICATED TOKEN_REQUIRED"
FORGED = "UNAUTHENTICATED TOKEN_INVALID"
NOT_FOR_YOU = "PERMISSION_DENIED ROLE_REQUIRED"
NOT_YOURS = "PERMISSION_DENIED NOT_YOURS"
NO_SUCH = "NOT_FOUND NOT_FOUND"

ALL_SERVICES = frozenset({"user", "product", "order", "cache", "payment", "gateway", "notification", "stranger"})
"""Who has a key of its own: all services, and one that no rule knows."""


@dataclass(frozen=True)
class Access:
    """How a call ends, and for whom: `owner` is the customer whose own it is about, `other` another one."""

    anonymous: str = NOBODY
    owner: str = NOT_FOR_YOU
    other: str = NOT_FOR_YOU
    admin: str = OK
    services: frozenset[str] = frozenset()

    def of_service(self, name: str) -> str:
        return OK if name in self.services else NOT_FOR_YOU


def _for_admins(*services: str) -> Access:
    return Access(services=frozenset(services))


def _for_owners(*services: str, to_others: str = NOT_YOURS) -> Access:
    return Access(owner=OK, other=to_others, services=frozenset(services))


ANYONE = Access(anonymous=OK, owner=OK, other=OK, services=ALL_SERVICES)

WHO_MAY: Mapping[str, Access] = {
    "UserService.CreateUser": ANYONE,
    "UserService.GetUser": _for_owners("order", "notification"),
    "UserService.UpdateUser": _for_owners(),
    "UserService.DeleteUser": _for_owners(),
    "UserService.ListUsers": _for_admins(),
    "UserService.Login": ANYONE,
    "UserService.RefreshTokens": ANYONE,
    "UserService.Logout": ANYONE,
    "ProductService.CreateProduct": _for_admins(),
    "ProductService.GetProduct": ANYONE,
    "ProductService.BatchGetProducts": ANYONE,
    "ProductService.ListProducts": ANYONE,
    "ProductService.UpdateProduct": _for_admins(),
    "ProductService.DeleteProduct": _for_admins(),
    "ProductService.WatchProducts": ANYONE,
    "InventoryService.ReserveStock": _for_admins("order"),
    "InventoryService.ReleaseStock": _for_admins("order"),
    "InventoryService.CommitStock": _for_admins("order"),
    "InventoryService.GetStock": _for_admins(),
    "InventoryService.AdjustStock": _for_admins(),
    "OrderService.CreateOrder": _for_owners(),
    "OrderService.GetOrder": _for_owners(to_others=NO_SUCH),
    "OrderService.ListOrders": _for_owners(),
    "OrderService.CancelOrder": _for_owners(to_others=NO_SUCH),
    "OrderService.WatchOrder": _for_owners(to_others=NO_SUCH),
    "CacheService.Get": _for_admins("cache", "product"),
    "CacheService.Set": _for_admins("cache", "product"),
    "CacheService.CompareAndSet": _for_admins("cache", "product"),
    "CacheService.Delete": _for_admins("cache", "product"),
    "CacheService.Clear": _for_admins("cache", "product"),
    "CacheService.BatchGet": _for_admins("cache", "product"),
    "CacheService.BatchSet": _for_admins("cache", "product"),
    "CacheService.BatchDelete": _for_admins("cache"),
    "CacheService.GetStats": _for_admins(),
    "PaymentService.AuthorizePayment": _for_admins("order"),
    "PaymentService.CapturePayment": _for_admins("order"),
    "PaymentService.RefundPayment": _for_admins("order"),
    "PaymentService.GetPayment": _for_admins(),
    "PaymentService.ListPayments": _for_admins(),
    "PaymentSimulatorService.SetFaults": _for_admins(),
    "PaymentSimulatorService.GetFaults": _for_admins(),
}


def persons(shop: Shop, owner: str) -> Mapping[str, Metadata]:
    """What each kind of person sends."""
    return {
        "anonymous": (),
        "owner": shop.person(owner),
        "other": shop.person(shop.bob),
        "admin": shop.person("boss", Role.ADMIN),
    }


async def test_no_rpc_is_left_out(shop: Shop) -> None:
    """Whoever adds one has to say here, too, who may call it; and every service that is served is walked."""
    assert set(WHO_MAY) == set(MAKERS) == set(RPCS)
    spoken = {name for channel in shop.channels.values() for name in await reflected(channel)}
    assert spoken == {service.full_name for service in SERVICES}


@pytest.mark.parametrize("name", RPCS)
async def test_by_grpc(shop: Shop, name: str) -> None:
    """Persons, all services, and a service whose token is for another."""
    access = WHO_MAY[name]
    expected: dict[str, str] = {}
    found: dict[str, str] = {}

    async def call(who: str, metadata: Metadata, ends: str) -> None:
        request, _ = await MAKERS[name](shop)
        expected[who], found[who] = ends, await by_grpc(shop, name, request, metadata)

    for who in ("anonymous", "other", "admin"):
        await call(who, persons(shop, shop.ann)[who], getattr(access, who))
    request, owner = await MAKERS[name](shop)
    expected["owner"], found["owner"] = access.owner, await by_grpc(shop, name, request, shop.person(owner))
    callee = served_by(name)
    for service in sorted(ALL_SERVICES):
        await call(service, shop.service(service, callee), access.of_service(service))
        audience = "user" if callee != "user" else "order"
        await call(f"{service}, to {audience}", shop.service(service, audience), FORGED)
    assert found == expected


@pytest.mark.parametrize("name", ROUTES)
async def test_over_http(shop: Shop, name: str) -> None:
    """The same for persons; a service's token is worth nothing there, not even one for the gateway."""
    access = WHO_MAY[name]
    expected: dict[str, str] = {}
    found: dict[str, str] = {}
    for who in ("anonymous", "owner", "other", "admin"):
        request, owner = await MAKERS[name](shop)
        expected[who] = getattr(access, who)
        found[who] = await by_http(shop, name, request, persons(shop, owner)[who])
    for audience in (served_by(name), "gateway"):
        request, _ = await MAKERS[name](shop)
        expected[audience] = FORGED
        found[audience] = await by_http(shop, name, request, shop.service("order", audience))
    assert found == expected


async def reflected(channel: Any) -> list[str]:
    """The gRPC services that a server says it speaks, but for gRPC's own."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = [service.name async for answer in answers for service in answer.list_services_response.service]
    return [name for name in names if not name.startswith("grpc.")]
