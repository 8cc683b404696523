"""The alembic scripts of the tables of notifications."""
