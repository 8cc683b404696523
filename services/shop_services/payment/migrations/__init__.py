"""The alembic scripts of the payment provider's tables."""
