"""Who may run the shop, who is logged in, and how often passwords were tried. Accounts of before are customers'."""

import sqlalchemy as sa
from alembic import op

from shop_services.storage import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the tables."""
    op.add_column("users", sa.Column("role", sa.String(16), nullable=False, server_default="customer"))
    op.create_table(
        "logins",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("token_id", sa.String(64), nullable=False),
        sa.Column("used_token_id", sa.String(64), nullable=False),
        sa.Column("renew_time", UtcDateTime, nullable=False),
        sa.Column("expire_time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_logins"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_logins_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_logins_user_id_renew_time", "logins", ["user_id", "renew_time"])
    op.create_index("ix_logins_expire_time", "logins", ["expire_time"])
    op.create_table(
        "login_attempts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("expire_time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_login_attempts"),
    )
    op.create_index("ix_login_attempts_expire_time", "login_attempts", ["expire_time"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("login_attempts")
    op.drop_table("logins")
    op.drop_column("users", "role")
