"""Databases: one text for SQLite, the embedded default, and PostgreSQL. It knows no service's tables."""

from shop_services.storage.columns import UtcDateTime, make_metadata
from shop_services.storage.database import Database
from shop_services.storage.failures import Contended, violated_constraint
from shop_services.storage.idempotency import KeptReply, Mutation, Replies, Reply, replies_table
from shop_services.storage.migrations import MigrationError, migrate

__all__ = [
    "Contended",
    "Database",
    "KeptReply",
    "MigrationError",
    "Mutation",
    "Replies",
    "Reply",
    "UtcDateTime",
    "make_metadata",
    "migrate",
    "replies_table",
    "violated_constraint",
]
