"""The statements on payments and their ledger.

A step locks its payment first, so that steps with one key take turns. There is nothing to lock for the first step of a
key: of several at once, one inserts the payment, and the others begin again and find it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.payment.domain import Entry, Payment, State, Terms, moved
from shop_services.payment.tables import ledger, payments
from shop_services.runtime.money import Money
from shop_services.storage import Contended

# What every step runs is built once: building a statement takes longer than to execute it.
_payment = sa.select(payments).where(payments.c.key == sa.bindparam("its_key"))
_locked = _payment.with_for_update()
_entries = sa.select(ledger).where(ledger.c.key.in_(sa.bindparam("keys", expanding=True))).order_by(ledger.c.number)
_entered = ledger.insert().returning(ledger.c.number)


async def lock(connection: AsyncConnection, key: str) -> Payment:
    """The payment with that key, which nobody else changes until the transaction ends; an unseen one is not locked."""
    rows = await connection.execute(_locked, {"its_key": key})
    found = await _with_entries(connection, rows.all())
    return found[0] if found else Payment(key)


async def record(
    connection: AsyncConnection, before: Payment, state: State, terms: Terms | None, now: datetime
) -> Payment:
    """Write that `before`, which is locked or unseen, has come into `state`; returns it as it is then.

    Raises:
        Contended: it was unseen, and another transaction has begun it meanwhile.
    """
    if before.state is State.UNSEEN:
        await _begin(connection, before.key, terms)
    hundredths = moved(state, terms)
    values = {"key": before.key, "state": state.value, "hundredths": hundredths, "time": now}
    number = await connection.scalar(_entered, values)
    entry = Entry(number, state, hundredths, now)
    return replace(before, terms=terms, entries=(*before.entries, entry))


async def get(connection: AsyncConnection, key: str) -> Payment:
    """The payment with that key, perhaps unseen."""
    rows = await connection.execute(_payment, {"its_key": key})
    found = await _with_entries(connection, rows.all())
    return found[0] if found else Payment(key)


async def page(connection: AsyncConnection, after: str, limit: int) -> list[Payment]:
    """`limit` payments at most, by key, beginning after the key `after`."""
    query = sa.select(payments).where(payments.c.key > after).order_by(payments.c.key).limit(limit)
    return await _with_entries(connection, (await connection.execute(query)).all())


async def _begin(connection: AsyncConnection, key: str, terms: Terms | None) -> None:
    values = {
        "key": key,
        "currency": terms.amount.currency if terms else None,
        "hundredths": terms.amount.hundredths if terms else None,
        "payment_method": terms.method if terms else "",
        "decline_code": terms.decline_code if terms else "",
    }
    try:
        await connection.execute(payments.insert(), values)
    except sa.exc.IntegrityError:  # its only constraint is the key
        raise Contended(f"payment {key!r} is being changed by another call") from None


async def _with_entries(connection: AsyncConnection, rows: Sequence[sa.Row[Any]]) -> list[Payment]:
    if not rows:
        return []
    entries: dict[str, list[Entry]] = defaultdict(list)
    for row in await connection.execute(_entries, {"keys": [row.key for row in rows]}):
        entries[row.key].append(Entry(row.number, State(row.state), row.hundredths, row.time))
    return [Payment(row.key, _terms(row), tuple(entries[row.key])) for row in rows]


def _terms(row: sa.Row[Any]) -> Terms | None:
    if row.currency is None:
        return None
    return Terms(Money(row.currency, row.hundredths), row.payment_method, row.decline_code)
