"""Logging in, staying logged in, and logging out."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.runtime.errors import DomainError, NotFound, Unauthenticated
from shop_services.runtime.identity.issuing import Issuer
from shop_services.runtime.ids import NewId
from shop_services.runtime.times import Clock
from shop_services.storage import Database
from shop_services.storage.sweeping import sweeping
from shop_services.user import login_storage, storage
from shop_services.user.domain import User
from shop_services.user.login_domain import Login, TokenReused, Tokens, attempted
from shop_services.user.passwords import Passwords

MOST = 50
"""Logins that a user may have at a time; one more ends the one that was not used for the longest time."""

_log = structlog.get_logger(__name__)


class Logins:
    """Who is logged in. `new_id` must give ids that nobody can guess."""

    def __init__(self, database: Database, passwords: Passwords, issuer: Issuer, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._passwords = passwords
        self._issuer = issuer
        self._clock = clock
        self._new_id = new_id

    async def login(self, name: str, password: str) -> tuple[User, Tokens]:
        """The account that `password` opens, and the tokens of a new login.

        An attempt is counted before the password is looked at, or many at once would be one; a good one clears the
        count. What could not be looked at, as too many come at once, is none.

        Raises:
            Unauthenticated: unknown name or wrong password, after the same time for either.
            ResourceExhausted: too many failed attempts by this name, whether there is an account of it or not; or too
                many passwords of anybody are being looked at.
        """
        self._passwords.check_room()
        await self._database.atomically(partial(self._attempt, name=name))
        async with self._database.reading() as connection:
            found = await storage.find_login(connection, name)
        if found is None:
            await self._passwords.verify_nobodys(password)
            raise _refused()
        user, password_hash = found
        if not await self._passwords.verify(password_hash, password):
            raise _refused()
        if self._passwords.outdated(password_hash):
            await self._renew_hash(user, password_hash, password)
        try:
            return await self._database.atomically(partial(self._open, user_id=user.id, name=name))
        except NotFound:  # closed a moment ago
            raise _refused() from None

    async def refresh(self, token: str) -> Tokens:
        """New tokens of the login that the refresh token `token` belongs to.

        Raises:
            Unauthenticated: it is none of ours, has expired, its login has ended, or it was used before; the last ends
                the login.
        """
        shown = self._issuer.read_refresh(token)

        async def work(connection: AsyncConnection) -> Tokens | None:
            login = await login_storage.find(connection, shown.sid)
            if login is None:
                raise Unauthenticated("the login has ended; log in again", reason="LOGIN_ENDED")
            try:
                renewed = login.renewed(shown.jti, self._new_id(), self._clock())
            except TokenReused:
                await login_storage.delete(connection, login.id)
                return None
            tokens = self._tokens(renewed, await storage.get(connection, login.user_id))
            await login_storage.update(connection, renewed, tokens.refresh_expire_time)
            return tokens

        if (tokens := await self._database.atomically(work)) is None:
            _log.warning("refresh_token_reused", user_id=shown.user_id, login_id=shown.sid)
            raise Unauthenticated("the token was used before; log in again", reason="TOKEN_REUSED")
        return tokens

    async def logout(self, token: str) -> None:
        """End the login that the refresh token `token` belongs to, if it belongs to one.

        RFC 7009, section 2.2: an invalid token is no error, since the client can do nothing about it.
        """
        try:
            shown = self._issuer.read_refresh(token)
        except Unauthenticated:
            return
        await self._database.atomically(lambda connection: login_storage.delete(connection, shown.sid))

    async def sweep(self, table: sa.Table) -> int:
        """Delete what means nothing any more in `logins` or `login_attempts`, and return how many rows."""
        now = self._clock()
        return await self._database.atomically(lambda connection: login_storage.delete_expired(connection, table, now))

    def sweeping(self, table: sa.Table) -> AbstractAsyncContextManager[None]:
        """Sweep `table` every ten minutes inside of the block."""
        return sweeping(table.name, partial(self.sweep, table))

    async def _attempt(self, connection: AsyncConnection, name: str) -> None:
        before = await login_storage.attempts_until(connection, name)
        await login_storage.count_attempts(connection, name, before, attempted(before, self._clock()))

    async def _open(self, connection: AsyncConnection, user_id: str, name: str) -> tuple[User, Tokens]:
        user = await storage.get(connection, user_id, lock=True)
        login = Login(self._new_id(), user_id, self._new_id(), "", self._clock())
        tokens = self._tokens(login, user)
        await login_storage.insert(connection, login, tokens.refresh_expire_time, MOST)
        await login_storage.forget_attempts(connection, name)
        return user, tokens

    def _tokens(self, login: Login, user: User) -> Tokens:
        access = self._issuer.access(user.id, user.role)
        refresh = self._issuer.refresh(user.id, login.id, login.token_id)
        return Tokens(access.token, _time(access.expires), refresh.token, _time(refresh.expires))

    async def _renew_hash(self, user: User, old: str, password: str) -> None:
        try:
            new = await self._passwords.hash(password)
            await self._database.atomically(lambda connection: storage.replace_hash(connection, user.id, old, new))
        except DomainError as error:  # the next login does it
            _log.warning("password_hash_not_renewed", user_id=user.id, reason=error.reason)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _refused() -> Unauthenticated:
    return Unauthenticated("unknown name or wrong password", reason="LOGIN_REFUSED")
