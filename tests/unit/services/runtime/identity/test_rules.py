"""Every RPC of the shop says who may call it, in a way that makes sense."""

from __future__ import annotations

import itertools

import pytest
from google.protobuf import wrappers_pb2

from shop.access.v1.access_pb2 import ROLE_ADMIN, ROLE_CUSTOMER, ROLE_UNSPECIFIED, Access
from shop.cache.v1 import cache_pb2
from shop.order.v1 import order_pb2
from shop.payment.v1 import payment_pb2
from shop.product.v1 import inventory_pb2, product_pb2
from shop.user.v1 import user_pb2
from shop_services.runtime.app import App
from shop_services.runtime.identity.caller import ANONYMOUS, Caller, Person, Role, Service
from shop_services.runtime.identity.rules import InvalidRule, Rule, check_rules, owner_in, rule_in, rule_of, set_owner
from shop_services.runtime.server import make_server
from tests.unit.services.runtime.ruled import ANYONE, add_service

SHOP = [
    service
    for file in (cache_pb2, order_pb2, payment_pb2, inventory_pb2, product_pb2, user_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
BOTH = frozenset(Role)
CUSTOMER, ADMIN = Person("u1", Role.CUSTOMER), Person("u2", Role.ADMIN)


@pytest.mark.parametrize("method", [f"/{one.full_name}/{rpc.name}" for one in SHOP for rpc in one.methods])
def test_every_rpc_of_the_shop_has_a_rule(method: str) -> None:
    """None is forgotten, and an admin may call all of them."""
    rule = rule_of(method)
    assert rule is not None
    assert rule.admits(ADMIN)


def test_a_rule_is_what_the_proto_says() -> None:
    """Roles, services, and the path of the owner."""
    found = rule_of("/shop.user.v1.UserService/GetUser")
    assert found == Rule(roles=BOTH, services=frozenset({"order", "notification"}), owner=("user_id",))
    update = rule_of("/shop.user.v1.UserService/UpdateUser")
    assert update is not None
    assert update.owner == ("user", "id")
    assert rule_of("/shop.order.v1.OrderService/GetOrder") == Rule(roles=BOTH, owner_in_resource=True)
    assert rule_of("/shop.user.v1.UserService/Login") == Rule(anyone=True)


@pytest.mark.parametrize("method", ["/shop.user.v1.UserService/Nothing", "/nobody.Knows/This", "", "/", "//", "/a"])
def test_what_is_not_known_has_no_rule(method: str) -> None:
    """Whatever the path."""
    assert rule_of(method) is None


def test_an_rpc_may_be_without_a_rule() -> None:
    """It has none then, which is another thing than one that admits everybody."""
    service = add_service("rules.Forgetful", {"Ruled": ANYONE, "Forgotten": None})
    assert rule_in(service.methods_by_name["Forgotten"]) is None
    assert rule_in(service.methods_by_name["Ruled"]) == Rule(anyone=True)
    check_rules(["rules.Forgetful", "nobody.Knows"])


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        (Rule(anyone=True), [ANONYMOUS, CUSTOMER, ADMIN, Service("order"), Service("cache")]),
        (Rule(roles=frozenset({Role.ADMIN})), [ADMIN]),
        (Rule(roles=BOTH, owner_in_resource=True), [CUSTOMER, ADMIN]),
        (Rule(services=frozenset({"order"})), [Service("order")]),
        (Rule(roles=frozenset({Role.ADMIN}), services=frozenset({"cache"})), [ADMIN, Service("cache")]),
        (Rule(), []),
    ],
)
def test_a_rule_admits_whom_it_names(rule: Rule, admitted: list[Caller]) -> None:
    """And nobody else; a person whose id is a service's name is no service."""
    everybody: list[Caller] = [
        ANONYMOUS,
        CUSTOMER,
        ADMIN,
        Service("order"),
        Service("cache"),
        Person("order", Role.CUSTOMER),
    ]
    for caller in everybody:
        named = CUSTOMER if caller == Person("order", Role.CUSTOMER) else caller
        assert rule.admits(caller) is (named in admitted)


NUMBERS = itertools.count()
ROLES = [ROLE_CUSTOMER, ROLE_ADMIN]


@pytest.mark.parametrize(
    ("access", "flaw"),
    [
        (Access(), "nobody may call"),
        (Access(owner="user_id"), "nobody may call"),
        (Access(anyone=True, roles=[ROLE_ADMIN]), "if anyone may call, nothing else"),
        (Access(anyone=True, owner="user_id"), "if anyone may call, nothing else"),
        (Access(roles=[ROLE_UNSPECIFIED]), "no person has the role 0"),
        (Access(roles=ROLES), "whose things they are"),
        (Access(roles=ROLES, owner="user_id", owner_in_resource=True), "whose things they are"),
        (Access(roles=[ROLE_ADMIN], owner="user_id"), "whose things they are"),
        (Access(services=["order"], owner_in_resource=True), "whose things they are"),
        (Access(services=["order", ""]), "a service without a name may call"),
        (Access(roles=ROLES, owner="nobody"), "the owner cannot be in nobody"),
        (Access(roles=ROLES, owner="request_id.more"), r"the owner cannot be in request_id\.more"),
        (Access(roles=ROLES, owner="update_mask.paths"), r"the owner cannot be in update_mask\.paths"),
        (Access(roles=ROLES, owner=".request_id"), r"the owner cannot be in \.request_id"),
        (Access(roles=ROLES, owner="user"), "the owner in user is no text"),
        (Access(roles=ROLES, owner="user.create_time.seconds"), r"the owner in user\.create_time\.seconds is no text"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_a_defect(access: Access, flaw: str) -> None:
    """It is found when a server starts, and names the RPC."""
    name = f"rules.Odd{next(NUMBERS)}"
    add_service(name, {"Call": access}, user_pb2.UpdateUserRequest)
    with pytest.raises(InvalidRule, match=rf"{name}\.Call: {flaw}"):
        make_server(App("odd", {name: lambda _server: None}))


def test_an_owner_is_read_and_set_where_the_rule_says() -> None:
    """At any depth; reading makes nothing."""
    request = user_pb2.UpdateUserRequest()
    assert owner_in(request, ("user", "id")) == ""
    assert not request.HasField("user")
    set_owner(request, ("user", "id"), "u1")
    assert (owner_in(request, ("user", "id")), request.user.id) == ("u1", "u1")
    text = wrappers_pb2.StringValue()
    set_owner(text, ("value",), "u1")
    assert owner_in(text, ("value",)) == "u1"
