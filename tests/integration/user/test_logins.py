"""Logging in over the wire, on a real database that two instances share."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import grpc_registry
from shop.access.v1.access_pb2 import ROLE_ADMIN, ROLE_CUSTOMER, ROLE_UNSPECIFIED
from shop.user.v1 import user_pb2 as pb
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import bearer
from shop_services.runtime.identity.caller import ANONYMOUS, Person, Role
from shop_services.runtime.settings import Settings
from shop_services.runtime.status import info_of
from shop_services.runtime.testing import running
from shop_services.storage import Database, migrate
from shop_services.user import login_storage, storage
from shop_services.user.login_domain import ATTEMPTS
from shop_services.user.wiring import MIGRATIONS, wire

Code = grpc.StatusCode
PASSWORD = "correct horse"
YEAR = timedelta(days=365)


@pytest.fixture
async def stubs(app: App, database_url: str, tmp_path: Path) -> AsyncIterator[list[UserServiceStub]]:
    """Two instances, called by nobody in particular."""
    settings = Settings(database_url=database_url, data=tmp_path / "data")
    async with (
        grpc_registry.connect("memory://") as registry,
        wire(settings, registry) as other,
        running(app, caller=ANONYMOUS) as first,
        running(other, caller=ANONYMOUS) as second,
    ):
        yield [UserServiceStub(first), UserServiceStub(second)]


@pytest.fixture
async def ann(users: UserServiceStub) -> pb.User:
    request = pb.CreateUserRequest(email="ann@example.com", username="ann", password=PASSWORD)
    user: pb.User = (await users.CreateUser(request)).user
    return user


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """The code and the reason that `call` fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), info_of(caught.value).reason


async def log_in(stub: UserServiceStub, name: str = "ann", password: str = PASSWORD) -> pb.LoginResponse:
    response: pb.LoginResponse = await stub.Login(pb.LoginRequest(login=name, password=password), timeout=60)
    return response


async def refresh(stub: UserServiceStub, tokens: pb.Tokens) -> pb.Tokens:
    request = pb.RefreshTokensRequest(refresh_token=tokens.refresh_token)
    return (await stub.RefreshTokens(request, timeout=60)).tokens


async def test_a_login_opens_what_is_ones_own(stubs: list[UserServiceStub], ann: pb.User) -> None:
    """Through every instance, until the account is closed; and nothing without it."""
    answer = await log_in(stubs[0])
    assert answer.user == ann
    assert answer.user.role == ROLE_CUSTOMER
    now = datetime.now(UTC)
    assert answer.tokens.access_expire_time.ToDatetime(UTC) > now
    assert answer.tokens.refresh_expire_time.ToDatetime(UTC) > answer.tokens.access_expire_time.ToDatetime(UTC)
    request = pb.GetUserRequest(user_id=ann.id)
    for stub in stubs:
        assert (await stub.GetUser(request, metadata=bearer(answer.tokens.access_token))).user == ann
        assert await refused(stub.GetUser(request)) == (Code.UNAUTHENTICATED, "TOKEN_REQUIRED")


@pytest.mark.usefixtures("ann")
async def test_a_refresh_token_is_used_once_over_all_instances(stubs: list[UserServiceStub]) -> None:
    """Shown to both at once it gives one next token; the one before is reused, and ends the login everywhere."""
    first = (await log_in(stubs[0])).tokens
    second = await refresh(stubs[1], first)
    third, same = await asyncio.gather(*(refresh(stub, second) for stub in stubs))
    assert await refused(refresh(stubs[0], first)) == (Code.UNAUTHENTICATED, "TOKEN_REUSED")
    for tokens in (second, third, same):
        assert await refused(refresh(stubs[1], tokens)) == (Code.UNAUTHENTICATED, "LOGIN_ENDED")


@pytest.mark.usefixtures("ann")
async def test_a_logout_is_known_to_all_instances(stubs: list[UserServiceStub]) -> None:
    """And may be repeated."""
    tokens = (await log_in(stubs[0])).tokens
    for stub in stubs:
        assert await stub.Logout(pb.LogoutRequest(refresh_token=tokens.refresh_token)) == pb.LogoutResponse()
    for stub in stubs:
        assert await refused(refresh(stub, tokens)) == (Code.UNAUTHENTICATED, "LOGIN_ENDED")


async def test_a_deletion_ends_all_logins(stubs: list[UserServiceStub], ann: pb.User) -> None:
    """Also one that is opened at the same time: it is refused, or ended."""
    tokens = (await log_in(stubs[0])).tokens
    deletion = stubs[1].DeleteUser(pb.DeleteUserRequest(user_id=ann.id), metadata=bearer(tokens.access_token))
    deleted, *logins = await asyncio.gather(deletion, *map(log_in, stubs), return_exceptions=True)
    assert deleted == pb.DeleteUserResponse()
    for login in logins:
        if isinstance(login, pb.LoginResponse):
            assert await refused(refresh(stubs[0], login.tokens)) == (Code.UNAUTHENTICATED, "LOGIN_ENDED")
        else:
            assert isinstance(login, grpc.aio.AioRpcError)
            assert (login.code(), info_of(login).reason) == (Code.UNAUTHENTICATED, "LOGIN_REFUSED")
    assert await refused(refresh(stubs[0], tokens)) == (Code.UNAUTHENTICATED, "LOGIN_ENDED")


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize("name", ["ann", "nobody"])
async def test_attempts_are_counted_over_all_instances(stubs: list[UserServiceStub], name: str) -> None:
    """At once, for a name with an account and for one without; who is refused is told when to try again."""
    attempts = [log_in(stub, name, "wrong horse") for stub in stubs * ATTEMPTS]
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    failures = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert len(failures) == 2 * ATTEMPTS
    looked = [failure for failure in failures if failure.code() is Code.UNAUTHENTICATED]
    limited = [failure for failure in failures if failure.code() is Code.RESOURCE_EXHAUSTED]
    # Whoever met the others each time that it tried to count itself is to try again: nothing was looked at.
    contended = [failure for failure in failures if info_of(failure).reason == "CONTENTION"]
    assert len(looked) <= ATTEMPTS
    assert len(looked) + len(limited) + len(contended) == 2 * ATTEMPTS
    while not limited:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await log_in(stubs[0], name, "wrong horse")
        limited += [caught.value] * (caught.value.code() is Code.RESOURCE_EXHAUSTED)
    assert {info_of(failure).reason for failure in limited} == {"TOO_MANY_ATTEMPTS"}
    status = rpc_status.from_call(limited[0])  # type: ignore[arg-type]  # it needs code, details and trailing metadata
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details if detail.Is(retry.DESCRIPTOR))
    assert 0 < retry.retry_delay.seconds <= 60


@pytest.mark.usefixtures("ann")
async def test_what_has_expired_is_deleted(stubs: list[UserServiceStub], database_url: str) -> None:
    """Of logins and of attempts, and nothing before its time."""
    await log_in(stubs[0])
    assert await refused(log_in(stubs[0], "nobody")) == (Code.UNAUTHENTICATED, "LOGIN_REFUSED")
    now = datetime.now(UTC)
    async with Database(database_url, service="user") as database, database.transaction() as connection:
        for table in (login_storage.logins, login_storage.attempts):
            deleted = [
                await login_storage.delete_expired(connection, table, at) for at in (now, now + YEAR, now + YEAR)
            ]
            assert deleted == [0, 1, 0]


async def test_only_an_admin_makes_an_admin(app: App, users: UserServiceStub, ann: pb.User) -> None:
    """Not the customer herself, by mask or without one; and nothing is no role."""
    change = pb.User(id=ann.id, role=ROLE_ADMIN)
    async with running(app, caller=Person(ann.id, Role.CUSTOMER)) as channel:
        own = UserServiceStub(channel)
        for request in (
            pb.UpdateUserRequest(user=change),
            pb.UpdateUserRequest(user=change, update_mask=FieldMask(paths=["role"])),
            pb.UpdateUserRequest(user=pb.User(role=ROLE_ADMIN)),  # the id is filled in
        ):
            assert await refused(own.UpdateUser(request)) == (Code.PERMISSION_DENIED, "ROLE_REQUIRED")
        sent_back = pb.User(id=ann.id, display_name="Ann", role=ann.role)
        assert (await own.UpdateUser(pb.UpdateUserRequest(user=sent_back))).user.display_name == "Ann"
    nothing = pb.UpdateUserRequest(
        user=pb.User(id=ann.id, role=ROLE_UNSPECIFIED), update_mask=FieldMask(paths=["role"])
    )
    assert (await refused(users.UpdateUser(nothing)))[0] is Code.INVALID_ARGUMENT
    assert (await users.UpdateUser(pb.UpdateUserRequest(user=change))).user.role == ROLE_ADMIN


async def test_accounts_of_before_there_were_roles_are_customers(database_url: str) -> None:
    """The migration finds them as they were."""
    now = datetime.now(UTC)
    async with Database(database_url, service="user") as database:
        with TemporaryDirectory() as scripts:
            shutil.copy(MIGRATIONS / "v0001_users.py", scripts)
            await migrate(database, "user", Path(scripts))
        values = dict.fromkeys(("id", "email", "email_key", "username", "username_key", "password_hash"), "ann")
        row = {**values, "display_name": "", "profile": {}, "version": 1, "create_time": now, "update_time": now}
        then = sa.table("users", *(sa.column(c.name, c.type) for c in storage.users.c if c.name != "role"))
        async with database.transaction() as connection:
            await connection.execute(sa.insert(then).values(row))
        await migrate(database, "user", MIGRATIONS)
        async with database.reading() as connection:
            assert (await storage.get(connection, "ann")).role is Role.CUSTOMER
