"""The tables of the provider. Where services share a database, no other service reads or writes them."""

from __future__ import annotations

import sqlalchemy as sa

from shop_services.storage import UtcDateTime, make_metadata

metadata = make_metadata()

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("currency", sa.String(3)),
    sa.Column("hundredths", sa.BigInteger),
    sa.Column("payment_method", sa.String(64), nullable=False),
    sa.Column("decline_code", sa.String(64), nullable=False),
)
"""What was asked for with each key; no currency and no amount where a refund came before anything else."""

ledger = sa.Table(
    "payment_ledger",
    metadata,
    # SQLite numbers rows by itself only where the type is its INTEGER, which has 64 bits.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("key", sa.ForeignKey(payments.c.key), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("hundredths", sa.BigInteger, nullable=False),
    sa.Column("time", UtcDateTime, nullable=False),
    sa.UniqueConstraint("key", "state"),
    sa.CheckConstraint(
        "hundredths = 0 OR state = 'CAPTURED' AND hundredths > 0 OR state = 'REFUNDED' AND hundredths < 0",
        name="direction",
    ),
)
"""Every change of every payment; rows are added and never changed. No key is captured, or refunded, twice."""

faults = sa.Table(
    "payment_faults",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("refuse_percent", sa.Integer, nullable=False),
    sa.Column("delay_micros", sa.BigInteger, nullable=False),
    sa.Column("silent_percent", sa.Integer, nullable=False),
    sa.Column("crash_percent", sa.Integer, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)
"""One row: how the provider misbehaves, at all instances."""
