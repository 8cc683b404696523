"""The user service over the wire, on a real database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from argon2 import PasswordHasher
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from shop.user.v1 import user_pb2 as pb
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.storage import Database, migrate
from shop_services.user import storage
from shop_services.user.wiring import MIGRATIONS

Code = grpc.StatusCode
PASSWORD = "correct horse"


def _new(username: str = "Ann", **fields: Any) -> pb.CreateUserRequest:
    values = {"email": f"{username}@Example.com", "username": username, "password": PASSWORD, **fields}
    return pb.CreateUserRequest(**values)


async def _refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, list[str]]:
    """The code that `call` fails with, and the fields that its BadRequest names."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it needs code, details and trailing metadata
        found = error_details_pb2.BadRequest()
        for detail in status.details if status else ():
            if detail.Unpack(found):
                break
        return error.code(), [violation.field for violation in found.field_violations]
    raise AssertionError("the call did not fail")


async def test_an_account_is_what_was_asked_for(users: UserServiceStub) -> None:
    """It has an id, an etag and times; names as they were written; any JSON object as a profile; and no password."""
    profile = Struct()
    profile.update({"a": 1, "b": [True, None, "c", {"d": 0.5}]})
    user = (await users.CreateUser(_new(display_name="Ann B.", profile=profile))).user
    assert (user.email, user.username, user.display_name) == ("Ann@Example.com", "Ann", "Ann B.")
    assert user.profile == profile
    assert user.id
    assert user.etag
    assert user.create_time == user.update_time
    assert (await users.GetUser(pb.GetUserRequest(user_id=user.id))).user == user
    assert PASSWORD not in str(user)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"email": "ANN@example.COM", "username": "bob"}, "email"),
        ({"email": "bob@example.com", "username": "aNN"}, "username"),
    ],
)
async def test_names_are_unique_without_regard_to_case(
    users: UserServiceStub, other: dict[str, str], field: str
) -> None:
    """The taken field is named, on creation and on change."""
    await users.CreateUser(_new())
    assert await _refused(users.CreateUser(_new(**other))) == (Code.ALREADY_EXISTS, [field])
    bob = (await users.CreateUser(_new("bob"))).user
    change = pb.UpdateUserRequest(user=pb.User(id=bob.id, **{field: other[field]}))  # type: ignore[arg-type]
    assert await _refused(users.UpdateUser(change)) == (Code.ALREADY_EXISTS, [field])
    own = pb.UpdateUserRequest(user=pb.User(id=bob.id, username="BOB"))
    assert (await users.UpdateUser(own)).user.username == "BOB"


async def test_of_concurrent_duplicates_one_is_created(users: UserServiceStub) -> None:
    """The others are told that the name is taken."""
    calls = (users.CreateUser(_new("ann")) for _ in range(6))
    ends = await asyncio.gather(*calls, return_exceptions=True)
    failures = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert [failure.code() for failure in failures] == [Code.ALREADY_EXISTS] * 5
    assert len((await users.ListUsers(pb.ListUsersRequest())).users) == 1


async def test_of_concurrent_repetitions_one_is_created_and_all_get_it(users: UserServiceStub) -> None:
    """With one request id all callers get the same account; with another body the id is refused."""
    replies = await asyncio.gather(*(users.CreateUser(_new(request_id="r1")) for _ in range(6)))
    assert len({reply.user.id for reply in replies}) == 1
    assert await _refused(users.CreateUser(_new("bob", request_id="r1"))) == (Code.INVALID_ARGUMENT, ["request_id"])
    assert len((await users.ListUsers(pb.ListUsersRequest())).users) == 1


async def test_an_update_changes_what_its_mask_names(users: UserServiceStub) -> None:
    """Masked fields are changed, also to nothing; the others are left, whatever the message holds."""
    user = (await users.CreateUser(_new(display_name="Ann", profile={"fields": {}}))).user
    given = pb.User(id=user.id, email="new@example.com", display_name="", username="other")
    mask = FieldMask(paths=["email", "display_name"])
    changed = (await users.UpdateUser(pb.UpdateUserRequest(user=given, update_mask=mask))).user
    assert (changed.email, changed.display_name, changed.username) == ("new@example.com", "", "Ann")
    assert changed.etag != user.etag
    assert changed.create_time == user.create_time
    assert changed.update_time.ToNanoseconds() >= user.update_time.ToNanoseconds()
    assert (await users.GetUser(pb.GetUserRequest(user_id=user.id))).user == changed


async def test_without_a_mask_every_field_that_is_set_is_changed(users: UserServiceStub) -> None:
    """What is not set stays."""
    user = (await users.CreateUser(_new(display_name="Ann"))).user
    profile = Struct()
    profile.update({"colour": "blue"})
    changed = (await users.UpdateUser(pb.UpdateUserRequest(user=pb.User(id=user.id, profile=profile)))).user
    assert (changed.display_name, changed.profile) == ("Ann", profile)


async def test_an_update_of_an_older_state_is_aborted(users: UserServiceStub) -> None:
    """Of many changes based on one etag, one is made."""
    user = (await users.CreateUser(_new())).user
    changes = [
        pb.UpdateUserRequest(user=pb.User(id=user.id, etag=user.etag, display_name=f"name {n}")) for n in range(8)
    ]
    ends = await asyncio.gather(*map(users.UpdateUser, changes), return_exceptions=True)
    failures = [end.code() for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert failures == [Code.ABORTED] * 7
    deletion = pb.DeleteUserRequest(user_id=user.id, etag=user.etag)
    assert (await _refused(users.DeleteUser(deletion)))[0] is Code.ABORTED


async def test_updates_without_an_etag_are_all_made(users: UserServiceStub) -> None:
    """Concurrent ones take turns; each field that was named has its value in the end."""
    user = (await users.CreateUser(_new())).user
    changes = [
        pb.User(id=user.id, email="new@example.com"),
        pb.User(id=user.id, username="new"),
        pb.User(id=user.id, display_name="new"),
    ]
    await asyncio.gather(*(users.UpdateUser(pb.UpdateUserRequest(user=change)) for change in changes))
    now = (await users.GetUser(pb.GetUserRequest(user_id=user.id))).user
    assert (now.email, now.username, now.display_name) == ("new@example.com", "new", "new")


@pytest.mark.parametrize(
    ("request_message", "fields"),
    [
        (pb.UpdateUserRequest(user=pb.User(display_name="x")), ["user.id"]),
        (pb.UpdateUserRequest(user=pb.User(id="u")), ["update_mask"]),
        (pb.UpdateUserRequest(user=pb.User(id="u"), update_mask=FieldMask(paths=["id"])), ["update_mask"]),
        (pb.UpdateUserRequest(user=pb.User(id="u"), update_mask=FieldMask(paths=["password"])), ["update_mask"]),
        (
            pb.UpdateUserRequest(user=pb.User(id="u"), update_mask=FieldMask(paths=["email", "username"])),
            ["user.email", "user.username"],
        ),
        (pb.UpdateUserRequest(user=pb.User(id="u", email="nobody")), ["user.email"]),
        (pb.UpdateUserRequest(), ["user"]),
    ],
)
async def test_a_wrong_update_is_refused_by_field(
    users: UserServiceStub, request_message: pb.UpdateUserRequest, fields: list[str]
) -> None:
    """Before anything is looked up."""
    code, named = await _refused(users.UpdateUser(request_message))
    assert (code, sorted(named)) == (Code.INVALID_ARGUMENT, fields)


async def test_a_wrong_account_is_refused_by_field(users: UserServiceStub) -> None:
    """All that is wrong is told at once; nothing is created."""
    wrong = pb.CreateUserRequest(email="nobody", username="a b", password="short", display_name="x" * 101)
    assert await _refused(users.CreateUser(wrong)) == (
        Code.INVALID_ARGUMENT,
        ["email", "username", "password", "display_name"],
    )
    for value in (math.inf, math.nan, "y" * 70_000):
        profile = Struct()
        profile.update({"x": [value]})
        assert await _refused(users.CreateUser(_new(profile=profile))) == (Code.INVALID_ARGUMENT, ["profile"])
    assert not (await users.ListUsers(pb.ListUsersRequest())).users


async def test_an_unknown_account_is_not_found(users: UserServiceStub) -> None:
    """By every RPC that names one."""
    calls = (
        users.GetUser(pb.GetUserRequest(user_id="u")),
        users.UpdateUser(pb.UpdateUserRequest(user=pb.User(id="u", display_name="x"))),
        users.DeleteUser(pb.DeleteUserRequest(user_id="u")),
    )
    for call in calls:
        assert (await _refused(call))[0] is Code.NOT_FOUND


async def test_a_closed_account_is_gone(users: UserServiceStub) -> None:
    """Nobody finds it or logs in, its names are free; repeated with its request id, the deletion still succeeds."""
    user = (await users.CreateUser(_new())).user
    deletion = pb.DeleteUserRequest(user_id=user.id, etag=user.etag, request_id="d1")
    assert await users.DeleteUser(deletion) == await users.DeleteUser(deletion) == pb.DeleteUserResponse()
    assert (await _refused(users.GetUser(pb.GetUserRequest(user_id=user.id))))[0] is Code.NOT_FOUND
    login = pb.LoginRequest(login="ann", password=PASSWORD)
    assert (await _refused(users.Login(login)))[0] is Code.UNAUTHENTICATED
    assert (await users.CreateUser(_new())).user.id != user.id


async def test_pages_show_each_account_once_in_the_order_of_opening(users: UserServiceStub) -> None:
    """Also when accounts are opened and closed meanwhile."""
    made = [(await users.CreateUser(_new(f"user-{n}"))).user for n in range(5)]
    first = await users.ListUsers(pb.ListUsersRequest(page_size=2))
    assert list(first.users) == made[:2]
    await users.DeleteUser(pb.DeleteUserRequest(user_id=made[1].id))
    made.append((await users.CreateUser(_new("user-5"))).user)
    seen: list[pb.User] = []
    token = first.next_page_token
    while token:
        page = await users.ListUsers(pb.ListUsersRequest(page_size=2, page_token=token))
        seen += page.users
        token = page.next_page_token
    assert seen == made[2:]
    assert list((await users.ListUsers(pb.ListUsersRequest())).users) == [made[0], *made[2:]]


async def test_wrong_pages_are_refused_by_field(users: UserServiceStub) -> None:
    """A size or a token that cannot be."""
    for request, field in (
        (pb.ListUsersRequest(page_size=-1), "page_size"),
        (pb.ListUsersRequest(page_size=1001), "page_size"),
        (pb.ListUsersRequest(page_token="x"), "page_token"),
    ):
        assert await _refused(users.ListUsers(request)) == (Code.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize("login", ["Ann", "ANN", "ann@example.com", "ANN@EXAMPLE.COM"])
async def test_a_password_opens_its_account(users: UserServiceStub, login: str) -> None:
    """By username or e-mail address, in whatever case."""
    user = (await users.CreateUser(_new())).user
    assert (await users.Login(pb.LoginRequest(login=login, password=PASSWORD))).user == user


async def test_a_refused_login_does_not_say_why(users: UserServiceStub) -> None:
    """An unknown name and a wrong password read the same."""
    await users.CreateUser(_new())
    details = set()
    for login, password in (("ann", "wrong horse"), ("bob", PASSWORD)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await users.Login(pb.LoginRequest(login=login, password=password))
        details.add((caught.value.code(), caught.value.details()))
    assert details == {(Code.UNAUTHENTICATED, "unknown name or wrong password")}


async def test_a_password_is_kept_as_a_hash_alone(users: UserServiceStub, database_url: str) -> None:
    """Neither the table nor the kept replies hold it."""
    await users.CreateUser(_new(request_id="r1"))
    async with Database(database_url, service="test") as database, database.reading() as connection:
        rows = [
            *(await connection.execute(storage.users.select())).all(),
            *(await connection.execute(storage.replies.select())).all(),
        ]
    assert len(rows) == 2
    assert PASSWORD not in str(rows)
    assert rows[0].password_hash.startswith("$argon2id$")


async def test_a_login_renews_an_outdated_hash(users: UserServiceStub, database_url: str) -> None:
    """A hash made with other parameters is replaced; the account stays as it was, and so does its password."""
    user = (await users.CreateUser(_new())).user
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    async with Database(database_url, service="test") as database:
        async with database.transaction() as connection:
            await connection.execute(storage.users.update().values(password_hash=weak))
        login = pb.LoginRequest(login="ann", password=PASSWORD)
        assert (await users.Login(login)).user == user
        async with database.reading() as connection:
            renewed = (await connection.execute(storage.users.select())).one().password_hash
    assert renewed != weak
    assert not PasswordHasher().check_needs_rehash(renewed)
    assert (await users.Login(login)).user == user


async def test_the_migrations_make_what_the_statements_expect(database_url: str) -> None:
    """The migrated tables are those of the code: columns, types, indexes and unique constraints."""
    async with Database(database_url, service="user") as database:
        await migrate(database, "user", MIGRATIONS)

        def differences(connection: Any) -> list[Any]:
            options = {"version_table": "alembic_version_user", "compare_type": True}
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), storage.metadata))

        async with database.reading() as connection:
            assert await connection.run_sync(differences) == []
