"""Logging in, staying logged in, and logging out, over a real SQLite database and with keys in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from shop.user.v1 import user_pb2 as pb
from shop_services.runtime.errors import PermissionDenied, ResourceExhausted, Unauthenticated
from shop_services.runtime.identity.authority import Authority, bearer
from shop_services.runtime.identity.caller import Caller, Person, Role
from shop_services.runtime.identity.issuing import Issuer
from shop_services.runtime.operator import OPERATOR
from shop_services.storage import Database, Replies, migrate
from shop_services.user import login_storage, storage
from shop_services.user.domain import NewUser, User
from shop_services.user.login_domain import ATTEMPTS, PAUSE, REPETITION, Tokens
from shop_services.user.login_usecases import MOST, Logins
from shop_services.user.passwords import Passwords
from shop_services.user.usecases import Users
from shop_services.user.wiring import MIGRATIONS

PASSWORD = "correct horse"
ACCESS, REFRESH = 600, 86_400
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SECOND = timedelta(seconds=1)


class Counting(Passwords):
    """Counts the passwords that are looked at."""

    looked = 0

    async def verify(self, password_hash: str, password: str) -> bool:
        self.looked += 1
        return await super().verify(password_hash, password)


@dataclass
class Door:
    """Users and their logins, at a time that the test sets. Ann has an account."""

    database: Database
    passwords: Counting
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        numbers = count(1)
        self.authority = Authority.in_memory("user", self._seconds)
        issuer = Issuer(self.authority.keys, ACCESS, REFRESH, self._seconds)
        self.logins = Logins(self.database, self.passwords, issuer, lambda: self.now, lambda: f"id{next(numbers)}")
        self.users = Users(self.database, self.passwords, lambda: self.now, lambda: f"user{next(numbers)}")
        self.replies = Replies(self.database, storage.replies, lambda: self.now)

    def _seconds(self) -> float:
        return self.now.timestamp()

    async def sign_up(self, name: str) -> User:
        new = NewUser(f"{name}@shop.example", name, PASSWORD, "", {})
        request = pb.CreateUserRequest(username=name)
        return await self._made(lambda mutation: self.users.create(new, mutation), request)

    async def change_role(self, user: User, role: Role, by: Caller) -> User:
        request = pb.UpdateUserRequest(user=pb.User(id=user.id))
        return await self._made(lambda mutation: self.users.update(user.id, {"role": role}, "", mutation, by), request)

    async def close(self, user: User) -> None:
        request = pb.DeleteUserRequest(user_id=user.id)
        await self._made(lambda mutation: self.users.delete(user.id, "", mutation), request)

    async def login(self, name: str = "ann", password: str = PASSWORD) -> Tokens:
        return (await self.logins.login(name, password))[1]

    def caller(self, tokens: Tokens) -> Caller:
        return self.authority.identify(bearer(tokens.access))

    async def rows(self, table: sa.Table) -> int:
        async with self.database.reading() as connection:
            return len((await connection.execute(table.select())).all())

    async def _made(self, change: Any, request: Any) -> User:
        made: list[User] = []

        def present(user: User) -> pb.User:
            made.append(user)
            return pb.User()

        await change(self.replies.mutation(request, pb.User, present))
        return made[-1]


@asynccontextmanager
async def _door(directory: Path) -> AsyncIterator[Door]:
    async with (
        Database(f"sqlite:///{directory}/user.db", service="user") as database,
        Counting(CHEAP) as passwords,
    ):
        await migrate(database, "user", MIGRATIONS)
        yield Door(database, passwords)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with _door(tmp_path) as door:
        yield door


@pytest.fixture
async def ann(door: Door) -> User:
    return await door.sign_up("ann")


async def refused(call: Awaitable[Any]) -> str:
    """The reason that `call` fails with, as nobody known."""
    with pytest.raises(Unauthenticated) as caught:
        await call
    return caught.value.reason


async def test_a_login_gives_tokens_that_say_who_one_is(door: Door, ann: User) -> None:
    """With their ends as they are told: to the second, as JWTs have it."""
    tokens = await door.login()
    assert door.caller(tokens) == Person(ann.id, Role.CUSTOMER)
    assert tokens.access_expire_time == door.now + ACCESS * SECOND
    assert tokens.refresh_expire_time == door.now + REFRESH * SECOND


async def test_a_new_account_is_a_customers_and_only_an_admin_changes_that(door: Door, ann: User) -> None:
    """Nobody makes themselves an admin; to send back the role that one has is no change."""
    assert ann.role is Role.CUSTOMER
    herself = Person(ann.id, Role.CUSTOMER)
    with pytest.raises(PermissionDenied, match=r"user\.role"):
        await door.change_role(ann, Role.ADMIN, herself)
    assert (await door.change_role(ann, Role.CUSTOMER, herself)).role is Role.CUSTOMER
    assert (await door.change_role(ann, Role.ADMIN, OPERATOR)).role is Role.ADMIN
    assert (await door.users.get(ann.id)).role is Role.ADMIN


async def test_who_is_no_admin_any_more_gives_no_roles(door: Door, ann: User) -> None:
    """Though a token says so for a while longer: nobody makes themselves an admin again, or somebody else in time."""
    bob = await door.sign_up("bob")
    await door.change_role(ann, Role.ADMIN, OPERATOR)
    herself = Person(ann.id, Role.ADMIN)
    await door.change_role(bob, Role.ADMIN, herself)
    await door.change_role(bob, Role.CUSTOMER, herself)
    await door.change_role(ann, Role.CUSTOMER, OPERATOR)
    for user in (ann, bob):
        with pytest.raises(PermissionDenied, match=r"user\.role"):
            await door.change_role(user, Role.ADMIN, herself)
    await door.close(ann)
    with pytest.raises(PermissionDenied, match=r"user\.role"):
        await door.change_role(bob, Role.ADMIN, herself)
    assert (await door.users.get(bob.id)).role is Role.CUSTOMER


async def test_refreshed_tokens_have_the_role_of_now(door: Door, ann: User) -> None:
    """Who becomes an admin, or is one no longer, is so at the next refresh."""
    tokens = await door.login()
    await door.change_role(ann, Role.ADMIN, OPERATOR)
    tokens = await door.logins.refresh(tokens.refresh)
    assert door.caller(tokens) == Person(ann.id, Role.ADMIN)
    await door.change_role(ann, Role.CUSTOMER, OPERATOR)
    assert door.caller(await door.logins.refresh(tokens.refresh)) == Person(ann.id, Role.CUSTOMER)


async def test_a_login_that_is_used_lives_on(door: Door, ann: User) -> None:
    """Each token is refreshed once, far beyond the life of the first."""
    tokens = await door.login()
    for _ in range(5):
        door.now += (REFRESH - 1) * SECOND
        tokens = await door.logins.refresh(tokens.refresh)
        assert door.caller(tokens) == Person(ann.id, Role.CUSTOMER)
    door.now += REFRESH * SECOND
    assert await refused(door.logins.refresh(tokens.refresh)) == "TOKEN_EXPIRED"


@pytest.mark.usefixtures("ann")
async def test_a_token_used_twice_ends_its_login(door: Door) -> None:
    """For both who have it, the thief and the robbed; other logins of the user go on."""
    other, stolen = await door.login(), await door.login()
    robbed = await door.logins.refresh(stolen.refresh)
    door.now += REPETITION + SECOND
    assert await refused(door.logins.refresh(stolen.refresh)) == "TOKEN_REUSED"
    assert await refused(door.logins.refresh(robbed.refresh)) == "LOGIN_ENDED"
    await door.logins.refresh(other.refresh)


@pytest.mark.usefixtures("ann")
async def test_a_lost_answer_ends_no_login(door: Door) -> None:
    """Repeated at once, also many times at once, a refresh gives the same next token to all."""
    tokens = await door.login()
    first, *more = await asyncio.gather(*(door.logins.refresh(tokens.refresh) for _ in range(5)))
    assert {one.refresh for one in more} == {first.refresh}
    door.now += REPETITION
    again = await door.logins.refresh(tokens.refresh)
    door.now += SECOND
    await door.logins.refresh(again.refresh)
    # The repetition gave what the first use gave, and that is used now.
    door.now += REPETITION + SECOND
    assert await refused(door.logins.refresh(first.refresh)) == "TOKEN_REUSED"


@pytest.mark.usefixtures("ann")
async def test_a_logout_ends_one_login(door: Door) -> None:
    """It may be repeated, and done with any token that the login had; nobody learns anything from it."""
    first, second = await door.login(), await door.login()
    later = await door.logins.refresh(first.refresh)
    for token in (first.refresh, first.refresh, "nonsense", later.access):
        await door.logins.logout(token)
    assert await refused(door.logins.refresh(later.refresh)) == "LOGIN_ENDED"
    await door.logins.refresh(second.refresh)


async def test_a_closed_account_is_logged_out_everywhere(door: Door, ann: User) -> None:
    """Its logins are gone with it, and another account that takes its name has none of them."""
    tokens = [await door.login(), await door.login()]
    await door.close(ann)
    await door.sign_up("ann")
    for one in tokens:
        assert await refused(door.logins.refresh(one.refresh)) == "LOGIN_ENDED"
    assert await door.rows(login_storage.logins) == 0


@pytest.mark.usefixtures("ann")
async def test_what_is_no_refresh_token_refreshes_nothing(door: Door) -> None:
    """An access token, a token of other keys, one that was changed."""
    tokens = await door.login()
    foreign = Issuer(Authority.in_memory("user").keys, ACCESS, REFRESH).refresh("ann", "id1", "id2").token
    head, _, signature = tokens.refresh.rpartition(".")
    changed = f"{head}.{'B' if signature.startswith('A') else 'A'}{signature[1:]}"
    for wrong in (tokens.access, foreign, changed, ""):
        assert await refused(door.logins.refresh(wrong)) == "TOKEN_INVALID"


@pytest.mark.usefixtures("ann")
async def test_a_user_has_so_many_logins_and_no_more(door: Door) -> None:
    """One more ends the one that was not used for the longest time."""
    tokens = []
    for _ in range(MOST):
        tokens.append(await door.login())
        door.now += SECOND
    used = await door.logins.refresh(tokens[0].refresh)
    door.now += SECOND
    await door.login()
    assert await refused(door.logins.refresh(tokens[1].refresh)) == "LOGIN_ENDED"
    await door.logins.refresh(used.refresh)
    assert await door.rows(login_storage.logins) == MOST


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize("name", ["ann", "nobody"])
async def test_after_too_many_attempts_no_password_is_looked_at(door: Door, name: str) -> None:
    """Whether there is such an account or not, and in whatever case it is spelled; after the time told it goes on."""
    for spelled in (name, name.upper()) * (ATTEMPTS // 2):
        assert await refused(door.login(spelled, "wrong horse")) == "LOGIN_REFUSED"
    assert door.passwords.looked == ATTEMPTS
    for password in ("wrong horse", PASSWORD):
        with pytest.raises(ResourceExhausted) as limited:
            await door.login(name, password)
        assert (limited.value.reason, limited.value.retry_after) == ("TOO_MANY_ATTEMPTS", PAUSE)
    assert door.passwords.looked == ATTEMPTS
    await door.login("ann@shop.example")
    door.now += PAUSE
    assert await refused(door.login(name, "wrong horse")) == "LOGIN_REFUSED"


@pytest.mark.usefixtures("ann")
async def test_a_good_password_clears_the_count(door: Door) -> None:
    """Who logs in often, and mistypes now and then, is never kept out."""
    for _ in range(3):
        for _ in range(ATTEMPTS - 1):
            assert await refused(door.login(password="wrong horse")) == "LOGIN_REFUSED"
        await door.login()
    assert await door.rows(login_storage.attempts) == 0


@pytest.mark.usefixtures("ann")
async def test_attempts_at_once_are_counted_one_by_one(door: Door) -> None:
    """Before any of them is looked at."""
    attempts = [door.login(password=f"wrong horse {n}") for n in range(3 * ATTEMPTS)]
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(end, Unauthenticated) for end in ends) == ATTEMPTS
    assert sum(isinstance(end, ResourceExhausted) for end in ends) == 2 * ATTEMPTS
    assert door.passwords.looked == ATTEMPTS


@pytest.mark.usefixtures("ann")
async def test_what_nobody_has_time_to_look_at_is_no_attempt(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is turned away since too many others log in is not kept out for it."""
    monkeypatch.setattr(door.passwords, "_most", 0)
    with pytest.raises(ResourceExhausted) as crowded:
        await door.login()
    assert crowded.value.subject == "passwords"
    assert await door.rows(login_storage.attempts) == 0


@pytest.mark.usefixtures("ann")
async def test_an_unknown_name_takes_the_work_of_a_known_one(door: Door) -> None:
    """The same number of hashes of the same parameters, and the same writes."""
    for name in ("ann", "nobody"):
        assert await refused(door.login(name, "wrong horse")) == "LOGIN_REFUSED"
    assert door.passwords.looked == 2
    assert await door.rows(login_storage.attempts) == 2


@pytest.mark.usefixtures("ann")
async def test_what_is_typed_as_a_name_is_not_kept(door: Door) -> None:
    """It may be a password that went into the wrong field."""
    assert await refused(door.login("my secret password", "x")) == "LOGIN_REFUSED"
    async with door.database.reading() as connection:
        (row,) = (await connection.execute(login_storage.attempts.select())).all()
    assert "secret" not in str(row)


@pytest.mark.usefixtures("ann")
async def test_what_has_expired_is_swept(door: Door) -> None:
    """And nothing else."""
    await door.login()
    assert await refused(door.login("nobody", "wrong horse")) == "LOGIN_REFUSED"
    door.now += PAUSE + SECOND
    assert await refused(door.login("nobody else", "wrong horse")) == "LOGIN_REFUSED"
    tables = (login_storage.logins, login_storage.attempts)
    assert [await door.logins.sweep(table) for table in tables] == [0, 1]
    door.now += REFRESH * SECOND
    assert [await door.logins.sweep(table) for table in tables] == [1, 1]
