"""What caches of the catalog need: which category an update found a product in, and a name for this catalog."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and give the catalog its name."""
    op.add_column("product_changes", sa.Column("previous_category", sa.String(64), nullable=True))
    op.add_column("catalog", sa.Column("incarnation", sa.String(16), nullable=False, server_default=""))
    catalog = sa.table("catalog", sa.column("incarnation", sa.String))
    op.execute(catalog.update().values(incarnation=secrets.token_hex(8)))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("catalog", "incarnation")
    op.drop_column("product_changes", "previous_category")
