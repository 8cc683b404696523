"""What can be done with users."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.runtime.errors import NotFound, PermissionDenied
from shop_services.runtime.etags import check_etag
from shop_services.runtime.identity.caller import Caller, Person, Role
from shop_services.runtime.ids import NewId
from shop_services.runtime.operator import OPERATOR
from shop_services.runtime.paging import Cursor, Page, make_page, read_token
from shop_services.runtime.times import Clock
from shop_services.storage import Database, Mutation, Reply
from shop_services.user import storage
from shop_services.user.domain import KIND, Changes, NewUser, User
from shop_services.user.passwords import Passwords

_QUERY = {"list": "users"}


class Users:
    """The accounts of the shop."""

    def __init__(self, database: Database, passwords: Passwords, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._passwords = passwords
        self._clock = clock
        self._new_id = new_id

    async def create(self, new: NewUser, mutation: Mutation[User, Reply]) -> Reply:
        """Open an account. Raises `AlreadyExists` if the e-mail address or the username is taken."""
        if (reply := await mutation.earlier()) is not None:
            return reply
        password_hash = await self._passwords.hash(new.password)

        async def work(connection: AsyncConnection) -> User:
            now = self._clock()
            user = User(
                id=self._new_id(),
                email=new.email,
                username=new.username,
                display_name=new.display_name,
                profile=new.profile,
                role=Role.CUSTOMER,
                version=1,
                create_time=now,
                update_time=now,
            )
            await storage.insert(connection, user, password_hash)
            return user

        return await mutation.commit(work)

    async def get(self, user_id: str) -> User:
        """One account. Raises `NotFound`."""
        async with self._database.reading() as connection:
            return await storage.get(connection, user_id)

    async def update(
        self, user_id: str, changes: Changes, etag: str, mutation: Mutation[User, Reply], by: Caller
    ) -> Reply:
        """Change an account.

        Raises:
            NotFound: there is no such account.
            Aborted: `etag` is of another state.
            AlreadyExists: the new e-mail address or username is taken.
            PermissionDenied: the role would become another, and `by` is no admin, or none any more.
        """

        async def work(connection: AsyncConnection) -> User:
            user = await storage.get(connection, user_id, lock=True)
            check_etag(etag, KIND, user_id, user.version)
            # Who sends back a whole account, as it was read, changes no role.
            if changes.get("role", user.role) is not user.role and not await _gives_roles(connection, by):
                raise PermissionDenied("user.role: only an admin may change it", reason="ROLE_REQUIRED")
            changed = user.changed(changes, self._clock())
            await storage.update(connection, changed)
            return changed

        return await mutation.commit(work)

    async def delete(self, user_id: str, etag: str, mutation: Mutation[User, Reply]) -> Reply:
        """Close an account, and end its logins. Raises `NotFound`, or `Aborted` if `etag` is of another state."""

        async def work(connection: AsyncConnection) -> User:
            user = await storage.get(connection, user_id, lock=True)
            check_etag(etag, KIND, user_id, user.version)
            await storage.delete(connection, user_id)
            return user

        return await mutation.commit(work)

    async def page(self, size: int, token: str, weigh: Callable[[User], int]) -> Page[User]:
        """Accounts in the order they were opened; `weigh` gives an account's bytes in the response.

        Raises `InvalidArgument` for a broken `token`.
        """
        cursor = read_token(token, _QUERY, (datetime, str))
        async with self._database.reading() as connection:
            found = await storage.page(connection, cursor, size + 1)
        return make_page(found, size, _QUERY, _cursor, weigh)


async def _gives_roles(connection: AsyncConnection, by: Caller) -> bool:
    """Whether `by` is an admin now: a token says so for a while longer, in which its holder could become one again."""
    if not (isinstance(by, Person) and by.role is Role.ADMIN):
        return False
    if by == OPERATOR:
        return True
    try:
        return (await storage.get(connection, by.id)).role is Role.ADMIN
    except NotFound:
        return False


def _cursor(user: User) -> Cursor:
    return user.create_time, user.id
