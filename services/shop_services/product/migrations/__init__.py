"""The alembic scripts of the product service's tables."""
