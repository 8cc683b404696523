"""Orders with their items and transitions, and the kept replies of this service."""

import sqlalchemy as sa
from alembic import op

from shop_services.storage import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "orders",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
        sa.UniqueConstraint("request_id", name="uq_orders_request_id"),
    )
    op.create_index("ix_orders_user_id_id", "orders", ["user_id", "id"])
    op.create_index("ix_orders_status_id", "orders", ["status", "id"])
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("product_id", sa.String(64), nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("product_name", sa.String(200), nullable=False),
        sa.Column("unit_currency", sa.String(3), nullable=False),
        sa.Column("unit_hundredths", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "position", name="pk_order_items"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_items_order_id"),
    )
    op.create_table(
        "order_transitions",
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "version", name="pk_order_transitions"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_transitions_order_id"),
    )
    op.create_table(
        "order_replies",
        sa.Column("request_type", sa.String(128), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("reply", sa.LargeBinary, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("request_type", "request_id", name="pk_order_replies"),
    )
    op.create_index("ix_order_replies_create_time", "order_replies", ["create_time"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("order_replies")
    op.drop_table("order_transitions")
    op.drop_table("order_items")
    op.drop_table("orders")
