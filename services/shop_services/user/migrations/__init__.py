"""The alembic scripts of the user service's tables."""
