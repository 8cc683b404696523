"""What a database's errors are taken for."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa

from shop_services.runtime.errors import Unavailable
from shop_services.storage.failures import Contended, translated, violated_constraint


class PostgresError(Exception):
    """As the asyncpg dialect raises it: the code is on it, the constraint on its cause."""

    def __init__(self, sqlstate: str, constraint_name: str | None = None) -> None:
        super().__init__("words")
        self.sqlstate = sqlstate
        self.__cause__ = Exception()
        self.__cause__.constraint_name = constraint_name  # type: ignore[attr-defined]


def _sqlite(name: str, text: str = "words") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    return error


def _raised(error: Exception) -> Exception:
    try:
        with translated():
            raise error
    except Exception as translation:
        return translation


def _wrapped(orig: Exception) -> sa.exc.DBAPIError:
    return sa.exc.OperationalError("SELECT 1", {}, orig)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
def test_conflicts_in_postgresql_are_contention(sqlstate: str) -> None:
    """Serialization failures, deadlocks and locks that are not free: to be tried again."""
    assert isinstance(_raised(_wrapped(PostgresError(sqlstate))), Contended)


@pytest.mark.parametrize("name", ["SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED"])
def test_a_locked_sqlite_is_contention(name: str) -> None:
    """Whatever it was locked for."""
    assert isinstance(_raised(_wrapped(_sqlite(name))), Contended)


@pytest.mark.parametrize(
    "error",
    [
        *(_wrapped(PostgresError(state)) for state in ("08006", "28P01", "3D000", "53300", "57014", "57P01", "58030")),
        *(_wrapped(_sqlite(name)) for name in ("SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR_READ", "SQLITE_NOTADB")),
        sa.exc.DBAPIError("SELECT 1", {}, Exception(), connection_invalidated=True),
        sa.exc.TimeoutError("pool"),
        ConnectionRefusedError(),
        TimeoutError(),
    ],
)
def test_a_database_that_is_away_is_unavailable(error: Exception) -> None:
    """Not reachable, not letting us in, shutting down, full, or out of connections."""
    translation = _raised(error)
    assert type(translation) is Unavailable
    assert "words" not in str(translation)


@pytest.mark.parametrize(
    "error", [_wrapped(PostgresError("42P01")), _wrapped(_sqlite("SQLITE_ERROR", "no such table: x")), KeyError("x")]
)
def test_a_defect_stays_what_it_is(error: Exception) -> None:
    """A missing table is nobody's outage."""
    assert _raised(error) is error


@pytest.mark.parametrize(
    ("orig", "name"),
    [
        (PostgresError("23505", "uq_users_email_key"), "uq_users_email_key"),
        (sqlite3.IntegrityError("UNIQUE constraint failed: users.email_key"), "uq_users_email_key"),
        (sqlite3.IntegrityError("UNIQUE constraint failed: lines.order_id, lines.number"), "uq_lines_order_id_number"),
        (sqlite3.IntegrityError("CHECK constraint failed: ck_stock_available"), "ck_stock_available"),
        (sqlite3.IntegrityError("FOREIGN KEY constraint failed"), ""),
        (PostgresError("23503"), ""),
    ],
)
def test_a_broken_constraint_has_the_same_name_everywhere(orig: Exception, name: str) -> None:
    """SQLite's columns and PostgreSQL's names come out the same."""
    assert violated_constraint(sa.exc.IntegrityError("INSERT", {}, orig)) == name
