"""What the tables of all services are made with: names of constraints, and a type for times."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def make_metadata() -> sa.MetaData:
    """A MetaData whose constraints have the same names in every database: `violated_constraint` tells them."""
    return sa.MetaData(naming_convention=_NAMES)


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A time with its zone, kept in UTC with microseconds. SQLite keeps no zone: it is put back on reading.

    Raises:
        ValueError: (as a StatementError's cause) a naive time was given.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
