"""On a real server: nobody gets further than the rule of an RPC lets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from structlog.testing import capture_logs

from shop.access.v1.access_pb2 import ROLE_ADMIN, ROLE_CUSTOMER, Access
from shop.user.v1.user_pb2 import GetUserRequest, LogoutRequest
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.runtime.identity import authorization
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.identity.caller import ANONYMOUS, Caller, Person, Role, Service, caller, customer_id
from shop_services.runtime.identity.keys import MemoryKeys
from shop_services.runtime.server import interceptors, make_server
from shop_services.runtime.status import info_of
from shop_services.runtime.testing import credentials_of
from tests.unit.services.runtime.identity.clock import Clock
from tests.unit.services.runtime.probe import Context, failure, serving, text
from tests.unit.services.runtime.ruled import ANYONE, add_service
from tests.unit.services.runtime.test_server import APP

UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED

OWN = Access(roles=[ROLE_CUSTOMER, ROLE_ADMIN], services=["order"], owner="value")
RULES = {
    "Anyones": ANYONE,
    "Own": OWN,
    "OwnStream": OWN,
    "OwnStreams": OWN,
    "Theirs": Access(roles=[ROLE_CUSTOMER, ROLE_ADMIN], owner_in_resource=True),
    "Admins": Access(roles=[ROLE_ADMIN]),
    "Services": Access(services=["order"]),
    "Forgotten": None,
}
add_service("authorization.Probe", RULES)

CUSTOMER, ADMIN, ORDER = Person("u1", Role.CUSTOMER), Person("u2", Role.ADMIN), Service("order")
AUTHORITY = Authority.in_memory("probe")


async def tell(request: StringValue, _context: Context) -> StringValue:
    """Answer with who calls, what is theirs, and what was asked."""
    return text(f"{caller()} {customer_id()} {request.value}")


async def tell_twice(request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """The same as a stream, over two turns of the loop."""
    for _ in range(2):
        await asyncio.sleep(0)
        yield await tell(request, context)


async def tell_each(requests: AsyncIterator[StringValue], context: Context) -> AsyncIterator[StringValue]:
    """The same of each request."""
    async for request in requests:
        yield await tell(request, context)


@pytest.fixture
async def probe() -> AsyncIterator[grpc.aio.Channel]:
    """A server with every interceptor."""
    rpcs: dict[str, tuple[str, Any]] = dict.fromkeys(RULES, ("UnaryUnary", tell))
    rpcs |= {"OwnStream": ("UnaryStream", tell_twice), "OwnStreams": ("StreamStream", tell_each)}
    async with serving(interceptors(AUTHORITY), "authorization.Probe", rpcs) as made:
        yield made


def call(probe: grpc.aio.Channel, rpc: str, who: Caller, value: str | Iterable[str] = "") -> Any:
    """A call by `who`, of the kind of the RPC."""
    kind = {"OwnStream": "unary_stream", "OwnStreams": "stream_stream"}.get(rpc, "unary_unary")
    make = getattr(probe, kind)
    rpc_call = make(f"/authorization.Probe/{rpc}", StringValue.SerializeToString, StringValue.FromString)
    sent = text(value) if isinstance(value, str) else iter([text(one) for one in value])
    return rpc_call(sent, metadata=credentials_of(who, AUTHORITY)(), timeout=20)


async def answer(probe: grpc.aio.Channel, rpc: str, who: Caller, value: str = "") -> str:
    return str((await call(probe, rpc, who, value)).value)


async def refusal(calling: Any) -> tuple[str, str]:
    """The code and the reason."""
    error = await failure(calling)
    return error.code().name, info_of(error).reason


@pytest.mark.parametrize("rpc", ["Anyones", "Own", "Theirs", "Admins", "Services", "Forgotten"])
@pytest.mark.parametrize("who", [ANONYMOUS, CUSTOMER, ADMIN, ORDER, Service("cache")], ids=str)
async def test_who_may_call_what(probe: grpc.aio.Channel, rpc: str, who: Caller) -> None:
    """The servicer is called with its caller, or the refusal says why it is not."""
    admitted: dict[str, list[Caller]] = {
        "Anyones": [ANONYMOUS, CUSTOMER, ADMIN, ORDER, Service("cache")],
        "Own": [CUSTOMER, ADMIN, ORDER],
        "Theirs": [CUSTOMER, ADMIN],
        "Admins": [ADMIN],
        "Services": [ORDER],
        "Forgotten": [],
    }
    if who in admitted[rpc]:
        own = "u1" if who == CUSTOMER else "None"
        filled = "u1" if (rpc, who) == ("Own", CUSTOMER) else ""
        assert await answer(probe, rpc, who) == f"{who} {own} {filled}"
        return
    if rpc == "Forgotten":
        expected = ("PERMISSION_DENIED", "NO_ACCESS_RULE")
    elif who == ANONYMOUS:
        expected = ("UNAUTHENTICATED", "TOKEN_REQUIRED")
    else:
        expected = ("PERMISSION_DENIED", "ROLE_REQUIRED")
    assert await refusal(call(probe, rpc, who)) == expected


async def test_a_customer_sees_what_is_theirs(probe: grpc.aio.Channel) -> None:
    """An empty owner is the caller; another's is refused with the name of the field; others may name anybody."""
    assert await answer(probe, "Own", CUSTOMER, "u1") == "customer:u1 u1 u1"
    error = await failure(call(probe, "Own", CUSTOMER, "u2"))
    assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, "value: is another's")
    assert (info_of(error).reason, dict(info_of(error).metadata)) == ("NOT_YOURS", {"field": "value"})
    for who in (ADMIN, ORDER):
        assert await answer(probe, "Own", who, "u3") == f"{who} None u3"


async def test_streams_are_no_way_around(probe: grpc.aio.Channel) -> None:
    """Their caller is known to the end, and each request of a stream is looked at."""
    assert [each.value async for each in call(probe, "OwnStream", CUSTOMER)] == ["customer:u1 u1 u1"] * 2
    assert await refusal(call(probe, "OwnStream", CUSTOMER, "u2").read()) == ("PERMISSION_DENIED", "NOT_YOURS")
    assert await refusal(call(probe, "OwnStream", ANONYMOUS).read()) == ("UNAUTHENTICATED", "TOKEN_REQUIRED")
    stream = call(probe, "OwnStreams", CUSTOMER, ["", "u1", "u2"])
    assert [(await stream.read()).value for _ in range(2)] == ["customer:u1 u1 u1"] * 2
    assert await refusal(stream.read()) == ("PERMISSION_DENIED", "NOT_YOURS")


async def test_calls_at_once_do_not_mix(probe: grpc.aio.Channel) -> None:
    """Each has a caller of its own."""
    people = [Person(f"p{number}", Role.CUSTOMER) for number in range(20)]
    told = await asyncio.gather(*(answer(probe, "Own", person) for person in people))
    assert told == [f"customer:{person.id} {person.id} {person.id}" for person in people]
    assert caller() == ANONYMOUS


async def test_a_bad_token_is_refused_where_none_is_needed(probe: grpc.aio.Channel) -> None:
    """Its sender thinks to be somebody; and the log keeps nothing of it."""
    make: Any = probe.unary_unary("/authorization.Probe/Anyones", StringValue.SerializeToString)
    with capture_logs() as logged:
        refused = await refusal(make(text(""), metadata=[("authorization", "Bearer se.cr.et")]))
        async with asyncio.timeout(10):
            while not logged:  # noqa: ASYNC110 - written once the answer is on its way, and nothing tells
                await asyncio.sleep(0.01)
    assert refused == ("UNAUTHENTICATED", "TOKEN_INVALID")
    assert [entry["code"] for entry in logged] == ["UNAUTHENTICATED"]
    assert "se.cr.et" not in str(logged)


async def test_under_tls_the_names_of_the_peer_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interceptor asks for them only then."""
    monkeypatch.setattr(authorization, "peer_names", lambda _context: ("order.shop.internal",))
    authority = Authority("probe", MemoryKeys(Clock()), certificates=True)
    rpcs = {"Services": ("UnaryUnary", tell)}
    async with serving(interceptors(authority), "authorization.Probe", rpcs) as probe:
        assert await answer(probe, "Services", ANONYMOUS) == "service:order None "
    async with serving(interceptors(AUTHORITY), "authorization.Probe", rpcs) as probe:
        assert await refusal(call(probe, "Services", ANONYMOUS)) == ("UNAUTHENTICATED", "TOKEN_REQUIRED")


async def test_an_app_without_an_authority_knows_nobody() -> None:
    """A token of any key is refused; what anyone may call can be called."""
    authority = Authority.in_memory("user")
    server = make_server(APP)
    port = server.grpc.add_insecure_port("127.0.0.1:0")
    await server.grpc.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = UserServiceStub(channel)
            request = GetUserRequest(user_id="u1")
            assert await refusal(stub.GetUser(request)) == ("UNAUTHENTICATED", "TOKEN_REQUIRED")
            token = credentials_of(ADMIN, authority)()
            assert await refusal(stub.GetUser(request, metadata=token)) == ("UNAUTHENTICATED", "TOKEN_INVALID")
            assert (await failure(stub.Logout(LogoutRequest(refresh_token="x")))).code() is UNIMPLEMENTED
    finally:
        await server.grpc.stop(None)
