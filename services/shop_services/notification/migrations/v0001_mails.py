"""E-mails, and the inbox of this service."""

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
        "mails",
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("recipient", sa.String(254), nullable=False),
        sa.Column("recipient_name", sa.String(100), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("message_id", sa.String(400), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.Column("sent_time", UtcDateTime, nullable=True),
        sa.PrimaryKeyConstraint("order_id", name="pk_mails"),
    )
    op.create_table(
        "notification_inbox",
        sa.Column("message_id", sa.String(64), nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_notification_inbox"),
    )
    op.create_index("ix_notification_inbox_create_time", "notification_inbox", ["create_time"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("notification_inbox")
    op.drop_table("mails")
