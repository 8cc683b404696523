"""What the saga needs: how an order is paid, what it owes, when the sweep looks at it; and messages out and in."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from shop_services.storage import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and tables. Orders that were recorded before are due at once.

    The sweep moves on those that are younger than SHOP_ORDER_TIMEOUT, and ends the others as timed out: nobody is
    charged for what was ordered long ago.
    """
    op.add_column("orders", sa.Column("payment_method", sa.String(64), nullable=False, server_default="pm_card_visa"))
    op.add_column("orders", sa.Column("owes_release", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("orders", sa.Column("owes_refund", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("orders", sa.Column("nudges", sa.Integer, nullable=False, server_default="0"))
    op.add_column("orders", sa.Column("due_time", UtcDateTime, nullable=True))
    orders = sa.table("orders", sa.column("status", sa.String), sa.column("due_time", UtcDateTime))
    under_way = orders.c.status.in_(("PENDING", "PROCESSING", "PAID"))
    op.execute(orders.update().where(under_way).values(due_time=datetime.now(UTC)))
    op.create_index("ix_orders_due_time", "orders", ["due_time"])
    op.create_table(
        "order_outbox",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(32), nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.Column("claimed_until", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_order_outbox"),
    )
    op.create_index("ix_order_outbox_claimed_until_topic", "order_outbox", ["claimed_until", "topic"])
    op.create_table(
        "order_inbox",
        sa.Column("message_id", sa.String(64), nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_order_inbox"),
    )
    op.create_index("ix_order_inbox_create_time", "order_inbox", ["create_time"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("order_inbox")
    op.drop_table("order_outbox")
    op.drop_index("ix_orders_due_time", "orders")
    for name in ("due_time", "nudges", "owes_refund", "owes_release", "payment_method"):
        op.drop_column("orders", name)
