"""The tables of users, and the statements on them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.runtime.errors import AlreadyExists, NotFound
from shop_services.runtime.identity.caller import Role
from shop_services.runtime.paging import Cursor
from shop_services.storage import UtcDateTime, make_metadata, replies_table, violated_constraint
from shop_services.user.domain import KIND, User, uniqueness_key

metadata = make_metadata()

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("email_key", sa.String(254), nullable=False, unique=True),
    sa.Column("username", sa.String(32), nullable=False),
    sa.Column("username_key", sa.String(32), nullable=False, unique=True),
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("profile", sa.JSON, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("create_time", UtcDateTime, nullable=False),
    sa.Column("update_time", UtcDateTime, nullable=False),
    sa.Index("ix_users_create_time_id", "create_time", "id"),
)
replies = replies_table(metadata, "user")

_SHOWN = [column for column in users.c if column.name not in ("email_key", "username_key", "password_hash")]

# Built once, since every order asks for its user: building a statement takes longer than to execute it.
_found = sa.select(*_SHOWN).where(users.c.id == sa.bindparam("user"))
_locked = _found.with_for_update()


async def insert(connection: AsyncConnection, user: User, password_hash: str) -> None:
    """Add `user`. Raises `AlreadyExists`, naming the field, if the e-mail address or the username is taken."""
    await _write(connection, users.insert().values(**_values(user), password_hash=password_hash), user)


async def update(connection: AsyncConnection, user: User) -> None:
    """Write all of `user` over what is stored under its id. Raises `AlreadyExists` as `insert` does."""
    await _write(connection, users.update().where(users.c.id == user.id).values(**_values(user)), user)


async def get(connection: AsyncConnection, user_id: str, *, lock: bool = False) -> User:
    """The user with that id; with `lock`, nobody else changes it until the transaction ends. Raises `NotFound`."""
    row = (await connection.execute(_locked if lock else _found, {"user": user_id})).one_or_none()
    if row is None:
        raise NotFound(KIND, user_id)
    return _user(row)


async def delete(connection: AsyncConnection, user_id: str) -> None:
    """Remove the user with that id, if there is one, and their logins."""
    await connection.execute(users.delete().where(users.c.id == user_id))


async def page(connection: AsyncConnection, after: Cursor | None, limit: int) -> list[User]:
    """`limit` users at most, oldest first, beginning after the one with the create_time and id in `after`."""
    query = sa.select(*_SHOWN).order_by(users.c.create_time, users.c.id).limit(limit)
    if after is not None:
        query = query.where(sa.tuple_(users.c.create_time, users.c.id) > after)
    return [_user(row) for row in await connection.execute(query)]


async def find_login(connection: AsyncConnection, login: str) -> tuple[User, str] | None:
    """The user with that username or e-mail address, and their password's hash. No username is an e-mail address."""
    key = uniqueness_key(login)
    query = sa.select(*_SHOWN, users.c.password_hash).where(
        sa.or_(users.c.username_key == key, users.c.email_key == key)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (_user(row), row.password_hash)


async def replace_hash(connection: AsyncConnection, user_id: str, old: str, new: str) -> None:
    """Put another hash of the same password in place of `old`, unless that was changed meanwhile."""
    same = users.update().where(users.c.id == user_id, users.c.password_hash == old)
    await connection.execute(same.values(password_hash=new))


async def _write(connection: AsyncConnection, statement: sa.Insert | sa.Update, user: User) -> None:
    try:
        await connection.execute(statement)
    except sa.exc.IntegrityError as error:
        match violated_constraint(error):
            case "uq_users_email_key":
                raise AlreadyExists(KIND, "email", user.email) from None
            case "uq_users_username_key":
                raise AlreadyExists(KIND, "username", user.username) from None
        raise


def _values(user: User) -> dict[str, Any]:
    values = {column.name: getattr(user, column.name) for column in _SHOWN}
    return {**values, "email_key": uniqueness_key(user.email), "username_key": uniqueness_key(user.username)}


def _user(row: sa.Row[*tuple[Any, ...]]) -> User:
    return User(**{**{column.name: getattr(row, column.name) for column in _SHOWN}, "role": Role(row.role)})
