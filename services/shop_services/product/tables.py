"""The tables of the catalog and its stock. Where services share a database, no other service reads or writes them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from shop_services.storage import UtcDateTime, make_metadata, replies_table

metadata = make_metadata()


def _content() -> list[sa.Column[Any]]:
    return [
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("price_hundredths", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.Column("update_time", UtcDateTime, nullable=False),
    ]


catalog = sa.Table(
    "catalog",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("incarnation", sa.String(16), nullable=False, server_default=""),
    sa.CheckConstraint("id = 1", name="one_row"),
)
"""One row: the number of the latest change, and a random name that tells this catalog from any other that numbers its
changes the same way. Whoever changes the catalog locks it first."""

products = sa.Table(
    "products",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("sku", sa.String(64), nullable=False, unique=True),
    *_content(),
    sa.Column("position", sa.BigInteger, nullable=False, unique=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Index("ix_products_category_position", "category", "position"),
)

product_changes = sa.Table(
    "product_changes",
    metadata,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("product_id", sa.String(64), nullable=False),
    sa.Column("sku", sa.String(64), nullable=False),
    *_content(),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("product_revision", sa.BigInteger, nullable=False),
    sa.Column("previous_category", sa.String(64), nullable=True),
)
"""The latest changes, numbered without gaps, each with the product as it was then. `previous_category` is where an
update found the product: null in rows of other changes, and in those that were written before there was this column."""

stock = sa.Table(
    "stock",
    metadata,
    sa.Column("product_id", sa.String(64), primary_key=True),
    sa.Column("available", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("committed", sa.BigInteger, nullable=False),
    sa.Column("listed", sa.Boolean, nullable=False),
    sa.CheckConstraint("available >= 0 AND reserved >= 0 AND committed >= 0", name="not_negative"),
)
"""A row outlives its product, which is then not `listed`: orders that hold some of it still release or commit that."""

reservations = sa.Table(
    "stock_reservations",
    metadata,
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("create_time", UtcDateTime, nullable=False),
    sa.Column("update_time", UtcDateTime, nullable=False),
)

reservation_items = sa.Table(
    "stock_reservation_items",
    metadata,
    sa.Column("order_id", sa.ForeignKey(reservations.c.order_id), primary_key=True),
    sa.Column("product_id", sa.String(64), primary_key=True),
    sa.Column("quantity", sa.BigInteger, nullable=False),
)

replies = replies_table(metadata, "product")
