"""Users answer the same in memory and by RPC, where they are the real service on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from grpc_registry import connect
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.notification.domain import Recipient
from shop_services.notification.upstream import Users, UserService
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.outgoing import OutgoingChannel, balanced_channel
from shop_services.runtime.settings import Settings
from shop_services.user.wiring import wire
from tests.integration.order.shop import served
from tests.unit.services.notification.doubles import KnownUsers


@dataclass
class Upstream:
    """Users, one of whom is `zoe`, and how they go away."""

    users: Users
    zoe: str
    go_away: Callable[[], Awaitable[None]]


@pytest.fixture(params=["memory", "rpc"])
async def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Upstream]:
    if request.param == "memory":
        known = KnownUsers()
        known.known["zoe"] = Recipient("zoe@example.com", "Zoë")

        async def go_away() -> None:
            known.away = True

        yield Upstream(known, "zoe", go_away)
        return
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(connect("memory://"))
        server = await stack.enter_async_context(AsyncExitStack())
        settings = Settings(data=tmp_path)
        app = await server.enter_async_context(wire(settings, registry))
        await server.enter_async_context(served(app, registry))
        balanced = balanced_channel("user", registry, settings, "notification")
        credentials = Authority.open(settings, "notification").credentials_for("user")
        calling = OutgoingChannel(balanced, default_timeout=5, credentials=credentials)
        channel = await stack.enter_async_context(calling)
        account = user_pb2.CreateUserRequest(
            email="zoe@example.com", username="zoe", display_name="Zoë", password="correct horse"
        )
        created: user_pb2.CreateUserResponse = await UserServiceStub(channel).CreateUser(account, timeout=30)
        yield Upstream(UserService(channel), created.user.id, server.aclose)


async def test_a_user_has_an_address_and_a_name(upstream: Upstream) -> None:
    """Both are as the user gave them."""
    assert await upstream.users.find(upstream.zoe) == Recipient("zoe@example.com", "Zoë")


async def test_a_user_who_is_gone_is_told_from_users_who_are_away(upstream: Upstream) -> None:
    """An account that does not exist is an answer; a service that cannot be asked is `Unavailable`."""
    assert await upstream.users.find("nobody") is None
    await upstream.go_away()
    with pytest.raises(Unavailable):
        await upstream.users.find(upstream.zoe)
