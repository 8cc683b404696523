"""Keys follow each other while the shop is used, and nobody notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import jwt
import pytest

from shop.user.v1 import user_pb2 as pb
from shop_services.runtime.identity import authority, directory, keys
from shop_services.runtime.identity.authority import bearer
from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.identity.keys import IDENTITY, KeyName, spent
from tests.integration.gateway.serving import DEADLINE
from tests.integration.identity.calling import by_grpc, by_http
from tests.integration.identity.requests import MAKERS
from tests.integration.identity.shop import PASSWORD, Shop, open_shop

ACCESS, REFRESH = 8.0, 12.0
"""At half of its life a token is renewed: the other half is for a machine that stands still meanwhile."""
ROTATED = (IDENTITY, "order")
CALLS = ("OrderService.CreateOrder", "OrderService.GetOrder", "UserService.GetUser")
"""The first has the order service call the user service and the product service, in its own name."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop whose keys grow old in seconds, and its tokens too: the proportions are those of the defaults."""
    with (
        patch.object(keys, "KNOWN_AFTER", 1.0),
        patch.object(keys, "SETTLED_AFTER", 2.0),
        patch.object(directory, "LOOK_SECONDS", 0.3),
        patch.object(authority, "SERVICE_TTL", ACCESS),
    ):
        async with open_shop(tmp_path / "data", access_ttl=ACCESS, refresh_ttl=REFRESH) as shop:
            yield shop


@dataclass
class Customer:
    """Somebody who shops without a pause, refreshing her tokens as a client does, and notes what went wrong."""

    shop: Shop
    tokens: pb.Tokens
    calls: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The id of the key that signed her access token."""
        header: dict[str, str] = jwt.get_unverified_header(self.tokens.access_token)
        return header["kid"]

    async def shopping(self, over: Callable[[], bool]) -> None:
        while not over():
            for name in CALLS:
                request, _ = await MAKERS[name](self.shop)
                for call in (by_grpc, by_http):
                    self.calls += 1
                    if self.tokens.access_expire_time.seconds - time.time() < ACCESS / 2:
                        refresh = pb.RefreshTokensRequest(refresh_token=self.tokens.refresh_token)
                        self.tokens = (await self.shop.users.RefreshTokens(refresh)).tokens
                    end = await call(self.shop, name, request, bearer(self.tokens.access_token))
                    if end != "OK":
                        self.failures.append(f"{name} {end}")


async def test_a_rotation_under_traffic_loses_no_call(shop: Shop) -> None:
    """The keys of people's tokens and of a service's are replaced twice, and old ones removed when they are spent."""
    name = (await shop.users.GetUser(pb.GetUserRequest(user_id=shop.ann), metadata=shop.operator())).user.username
    login = await shop.users.Login(pb.LoginRequest(login=name, password=PASSWORD))
    customer = Customer(shop, login.tokens)
    kept = KeyDirectory(shop.settings.keys)
    first = {owner: kept.names(owner) for owner in ROTATED}
    begun = time.time()
    over = False
    traffic = asyncio.create_task(customer.shopping(lambda: over))
    try:
        async with asyncio.timeout(4 * DEADLINE):
            for _ in range(2):
                await _until(lambda: time.time() > begun + 1)  # keys of one second have no order
                new = [kept.add(owner).name for owner in ROTATED]
                await _until(lambda: traffic.done() or customer.key == new[0].id)  # noqa: B023 - ended before the next
            await _until(lambda: traffic.done() or _pruned(kept, new))
    finally:
        over = True
        await traffic
    assert customer.failures == []
    assert customer.calls > 50
    for owner, gone in first.items():
        assert not set(gone) & set(kept.names(owner))
    published = (await shop.http.get("/.well-known/jwks.json")).json()["keys"]
    assert [key["kid"] for key in published] == [customer.key]


def _pruned(kept: KeyDirectory, newest: list[KeyName]) -> bool:
    """Remove the keys of which no good token can be left; whether only the newest are left."""
    for owner in ROTATED:
        for name in spent(kept.names(owner), REFRESH, time.time()):
            kept.remove(name)
    return all(kept.names(name.owner) == [name] for name in newest)


async def _until(true: Callable[[], bool]) -> None:
    while True:
        if true():
            return
        await asyncio.sleep(0.05)
