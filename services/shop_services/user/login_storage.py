"""The tables of logins and of attempts to log in, and the statements on them."""

from __future__ import annotations

import hashlib
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.storage import Contended, UtcDateTime
from shop_services.storage.sweeping import SWEEP_BATCH
from shop_services.user.domain import uniqueness_key
from shop_services.user.login_domain import Login
from shop_services.user.storage import metadata, users

logins = sa.Table(
    "logins",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(64), sa.ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("token_id", sa.String(64), nullable=False),
    sa.Column("used_token_id", sa.String(64), nullable=False),
    sa.Column("renew_time", UtcDateTime, nullable=False),
    sa.Column("expire_time", UtcDateTime, nullable=False, index=True),
    sa.Index("ix_logins_user_id_renew_time", "user_id", "renew_time"),
)
attempts = sa.Table(
    "login_attempts",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("expire_time", UtcDateTime, nullable=False, index=True),
)

_KEPT = [column for column in logins.c if column.name != "expire_time"]


async def insert(connection: AsyncConnection, login: Login, expire_time: datetime, most: int) -> None:
    """Add `login`. Of all of its user's the `most` that were renewed last are kept."""
    values = {column.name: getattr(login, column.name) for column in _KEPT}
    await connection.execute(logins.insert().values(**values, expire_time=expire_time))
    own = logins.c.user_id == login.user_id
    last = sa.select(logins.c.id).where(own).order_by(logins.c.renew_time.desc(), logins.c.id).limit(most)
    await connection.execute(logins.delete().where(own, logins.c.id.not_in(last)))


async def find(connection: AsyncConnection, login_id: str) -> Login | None:
    """The login with that id; nobody else changes it until the transaction ends."""
    row = (await connection.execute(sa.select(*_KEPT).where(logins.c.id == login_id).with_for_update())).one_or_none()
    return None if row is None else Login(*row)


async def update(connection: AsyncConnection, login: Login, expire_time: datetime) -> None:
    """Write all of `login` over what is stored under its id."""
    values = {column.name: getattr(login, column.name) for column in _KEPT}
    await connection.execute(logins.update().where(logins.c.id == login.id).values(**values, expire_time=expire_time))


async def delete(connection: AsyncConnection, login_id: str) -> None:
    """Remove the login with that id, if there is one."""
    await connection.execute(logins.delete().where(logins.c.id == login_id))


async def attempts_until(connection: AsyncConnection, name: str) -> datetime | None:
    """Until when attempts for `name` count; nobody else changes it until the transaction ends."""
    query = sa.select(attempts.c.expire_time).where(attempts.c.id == _attempts_id(name)).with_for_update()
    until: datetime | None = (await connection.execute(query)).scalar_one_or_none()
    return until


async def count_attempts(connection: AsyncConnection, name: str, before: datetime | None, until: datetime) -> None:
    """Write until when attempts for `name` count. Raises `Contended` if there were none `before`, and now are."""
    if before is not None:
        await connection.execute(attempts.update().where(attempts.c.id == _attempts_id(name)).values(expire_time=until))
        return
    try:
        await connection.execute(attempts.insert().values(id=_attempts_id(name), expire_time=until))
    except sa.exc.IntegrityError:
        raise Contended("others log in by the same name; try again") from None


async def forget_attempts(connection: AsyncConnection, name: str) -> None:
    """Count none of the attempts that were made for `name`."""
    await connection.execute(attempts.delete().where(attempts.c.id == _attempts_id(name)))


async def delete_expired(connection: AsyncConnection, table: sa.Table, now: datetime) -> int:
    """Delete rows of `logins` or `attempts` that mean nothing any more, a thousand at most, and return how many."""
    old = sa.select(table.c.id).where(table.c.expire_time < now).limit(SWEEP_BATCH)
    return (await connection.execute(table.delete().where(table.c.id.in_(old)))).rowcount


def _attempts_id(name: str) -> str:
    # What is typed as a name may be anything, a password too: it is not to be read in a table.
    return hashlib.sha256(uniqueness_key(name).encode()).hexdigest()
