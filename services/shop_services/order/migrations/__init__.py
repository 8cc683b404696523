"""The alembic scripts of the order service's tables."""
