"""The tables of notifications, and the statements on them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.messaging.inbox import inbox_table
from shop_services.notification.domain import KIND, Mail, Recipient, State
from shop_services.runtime.errors import AlreadyExists
from shop_services.storage import UtcDateTime, make_metadata

MAX_SUBJECT = 200
MAX_REASON = 500

metadata = make_metadata()

mails = sa.Table(
    "mails",
    metadata,
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("recipient", sa.String(254), nullable=False),
    sa.Column("recipient_name", sa.String(100), nullable=False),
    sa.Column("subject", sa.String(MAX_SUBJECT), nullable=False),
    sa.Column("message_id", sa.String(400), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(MAX_REASON), nullable=False),
    sa.Column("create_time", UtcDateTime, nullable=False),
    sa.Column("sent_time", UtcDateTime, nullable=True),
)
inbox = inbox_table(metadata, "notification")


# What is run for every e-mail is built once: building a statement takes longer than to execute it.
_found = sa.select(mails).where(mails.c.order_id == sa.bindparam("order"))
_pending = mails.update().where(mails.c.order_id == sa.bindparam("order"), mails.c.state == State.PENDING)
_begun = _pending.values(attempts=mails.c.attempts + 1)


async def insert(connection: AsyncConnection, mail: Mail) -> None:
    """Add the e-mail about an order. Raises `AlreadyExists` if there is one."""
    try:
        await connection.execute(mails.insert(), _values(mail))
    except sa.exc.IntegrityError:  # it has no constraint but its key
        raise AlreadyExists(KIND, "order_id", mail.order_id) from None


async def find(connection: AsyncConnection, order_id: str) -> Mail | None:
    """The e-mail about an order, if there is one."""
    row = (await connection.execute(_found, {"order": order_id})).one_or_none()
    return None if row is None else _mail(row)


async def begin(connection: AsyncConnection, order_id: str) -> Mail | None:
    """The e-mail about an order. If it is still pending, another attempt at it is counted."""
    await connection.execute(_begun, {"order": order_id})
    return await find(connection, order_id)


async def note(connection: AsyncConnection, order_id: str, reason: str) -> None:
    """Keep why the last attempt at an e-mail failed; it stays pending."""
    await connection.execute(_pending, {"order": order_id, "reason": reason[:MAX_REASON]})


async def skip(connection: AsyncConnection, order_id: str, reason: str) -> None:
    """An e-mail that was pending will not be sent."""
    await connection.execute(_pending, {"order": order_id, "state": State.SKIPPED, "reason": reason[:MAX_REASON]})


async def sent(connection: AsyncConnection, order_id: str, now: datetime) -> None:
    """An e-mail that was pending has been sent."""
    await connection.execute(_pending, {"order": order_id, "state": State.SENT, "reason": "", "sent_time": now})


def _values(mail: Mail) -> dict[str, Any]:
    return {
        "order_id": mail.order_id,
        "recipient": mail.recipient.address,
        "recipient_name": mail.recipient.name,
        "subject": mail.subject,
        "message_id": mail.message_id,
        "state": mail.state,
        "attempts": mail.attempts,
        "reason": mail.reason,
        "create_time": mail.create_time,
        "sent_time": mail.sent_time,
    }


def _mail(row: sa.Row[*tuple[Any, ...]]) -> Mail:
    return Mail(
        order_id=row.order_id,
        recipient=Recipient(row.recipient, row.recipient_name),
        subject=row.subject,
        message_id=row.message_id,
        state=State(row.state),
        attempts=row.attempts,
        reason=row.reason,
        create_time=row.create_time,
        sent_time=row.sent_time,
    )
