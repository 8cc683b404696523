"""Payments, the ledger of what became of them, and the faults of the simulation."""

import sqlalchemy as sa
from alembic import op

from shop_services.storage import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and the one row of faults: none."""
    op.create_table(
        "payments",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("currency", sa.String(3), nullable=True),
        sa.Column("hundredths", sa.BigInteger, nullable=True),
        sa.Column("payment_method", sa.String(64), nullable=False),
        sa.Column("decline_code", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_payments"),
    )
    op.create_table(
        "payment_ledger",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("hundredths", sa.BigInteger, nullable=False),
        sa.Column("time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_payment_ledger"),
        sa.ForeignKeyConstraint(["key"], ["payments.key"], name="fk_payment_ledger_key"),
        sa.UniqueConstraint("key", "state", name="uq_payment_ledger_key_state"),
        sa.CheckConstraint(
            "hundredths = 0 OR state = 'CAPTURED' AND hundredths > 0 OR state = 'REFUNDED' AND hundredths < 0",
            name="ck_payment_ledger_direction",
        ),
    )
    faults = op.create_table(
        "payment_faults",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("refuse_percent", sa.Integer, nullable=False),
        sa.Column("delay_micros", sa.BigInteger, nullable=False),
        sa.Column("silent_percent", sa.Integer, nullable=False),
        sa.Column("crash_percent", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_payment_faults"),
        sa.CheckConstraint("id = 1", name="ck_payment_faults_one_row"),
    )
    none = {"id": 1, "refuse_percent": 0, "delay_micros": 0, "silent_percent": 0, "crash_percent": 0}
    op.bulk_insert(faults, [none])


def downgrade() -> None:
    """Drop them."""
    for table in ("payment_faults", "payment_ledger", "payments"):
        op.drop_table(table)
