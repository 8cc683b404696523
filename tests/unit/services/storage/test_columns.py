"""The types and names that all tables share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from shop_services.storage.columns import UtcDateTime, make_metadata


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()])  # type: ignore[no-untyped-call]
def test_times_are_stored_in_utc_and_read_with_their_zone(dialect: sa.Dialect) -> None:
    """Whatever zone a time had, and whether or not the database keeps zones."""
    column = UtcDateTime()
    there = datetime(2026, 7, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    stored = column.process_bind_param(there, dialect)
    assert stored == datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
    for kept in (stored, stored.replace(tzinfo=None)):
        read = column.process_result_value(kept, dialect)
        assert read == there
        assert read is not None
        assert read.tzinfo is UTC
    assert column.process_bind_param(None, dialect) is column.process_result_value(None, dialect) is None


def test_a_naive_time_is_refused() -> None:
    """It would be stored as whatever zone the machine is in."""
    with pytest.raises(ValueError, match="without a time zone"):
        UtcDateTime().process_bind_param(datetime(2026, 7, 1), sqlite.dialect())  # noqa: DTZ001  # type: ignore[no-untyped-call]


def test_constraints_have_names_that_say_what_they_are() -> None:
    """So that a broken one can be told by its name, on every database."""
    table = sa.Table(
        "things",
        make_metadata(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("a", sa.Integer, unique=True),
        sa.Column("b", sa.Integer, index=True),
        sa.UniqueConstraint("a", "b"),
        sa.CheckConstraint("b >= 0", name="b_positive"),
    )
    ddl = str(sa.schema.CreateTable(table))
    for name in ("pk_things", "uq_things_a", "uq_things_a_b", "ck_things_b_positive"):
        assert f"CONSTRAINT {name} " in ddl
    assert [index.name for index in table.indexes] == ["ix_things_b"]
