"""The catalog with its changes, the stock with its reservations, and the kept replies of this service."""

import sqlalchemy as sa
from alembic import op

from shop_services.storage import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and the catalog's one row."""
    catalog = op.create_table(
        "catalog",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_catalog"),
        sa.CheckConstraint("id = 1", name="ck_catalog_one_row"),
    )
    op.bulk_insert(catalog, [{"id": 1, "revision": 0}])
    op.create_table(
        "products",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("price_hundredths", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.Column("update_time", UtcDateTime, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
        sa.UniqueConstraint("sku", name="uq_products_sku"),
        sa.UniqueConstraint("position", name="uq_products_position"),
    )
    op.create_index("ix_products_category_position", "products", ["category", "position"])
    op.create_table(
        "product_changes",
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("product_id", sa.String(64), nullable=False),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("price_hundredths", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.Column("update_time", UtcDateTime, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("product_revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_product_changes"),
    )
    op.create_table(
        "stock",
        sa.Column("product_id", sa.String(64), nullable=False),
        sa.Column("available", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("committed", sa.BigInteger, nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("product_id", name="pk_stock"),
        sa.CheckConstraint("available >= 0 AND reserved >= 0 AND committed >= 0", name="ck_stock_not_negative"),
    )
    op.create_table(
        "stock_reservations",
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.Column("update_time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("order_id", name="pk_stock_reservations"),
    )
    op.create_table(
        "stock_reservation_items",
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("product_id", sa.String(64), nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "product_id", name="pk_stock_reservation_items"),
        sa.ForeignKeyConstraint(
            ["order_id"], ["stock_reservations.order_id"], name="fk_stock_reservation_items_order_id"
        ),
    )
    op.create_table(
        "product_replies",
        sa.Column("request_type", sa.String(128), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("reply", sa.LargeBinary, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("request_type", "request_id", name="pk_product_replies"),
    )
    op.create_index("ix_product_replies_create_time", "product_replies", ["create_time"])


def downgrade() -> None:
    """Drop them."""
    for table in (
        "product_replies",
        "stock_reservation_items",
        "stock_reservations",
        "stock",
        "product_changes",
        "products",
        "catalog",
    ):
        op.drop_table(table)
