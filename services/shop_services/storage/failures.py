"""What a database's errors mean: try again, it is away, or a constraint was broken. Told apart in this file alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg  # type: ignore[import-untyped]
import sqlalchemy as sa
import structlog

from shop_services.runtime.errors import Unavailable

_log = structlog.get_logger(__name__)

# PostgreSQL's codes: serialization_failure, deadlock_detected, lock_not_available. Then the classes of those that say
# nothing about the statement: connections, refused logins, missing databases, resources, operators, the system.
_CONTENTION = ("40001", "40P01", "55P03")
_AWAY = ("08", "28", "3D", "53", "57", "58")
_SQLITE_CONTENTION = ("SQLITE_BUSY", "SQLITE_LOCKED")
_SQLITE_AWAY = ("SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CORRUPT", "SQLITE_NOTADB")
_SQLITE_UNIQUE = re.compile(r"UNIQUE constraint failed: (.+)")
_SQLITE_CHECK = re.compile(r"CHECK constraint failed: (\w+)")


class Contended(Unavailable):
    """Others were changing the same rows, each time it was tried. The caller may try again."""

    default_reason = "CONTENTION"


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors that say nothing about the statement into `Contended` or `Unavailable`, and leave the others."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        code = _code(error.orig)
        if code.startswith((*_CONTENTION, *_SQLITE_CONTENTION)):
            raise Contended("others are changing the same data; try again") from error
        if error.connection_invalidated or code.startswith((*_AWAY, *_SQLITE_AWAY)):
            raise _away(error.orig) from error
        raise
    except sa.exc.TimeoutError as error:  # of the pool
        _log.warning("database_busy")
        raise Unavailable("all connections to the database are in use") from error
    except (OSError, asyncpg.PostgresError) as error:  # raw from connecting; a TimeoutError also from asyncpg's timer
        raise _away(error) from error


_REFUSALS = {
    "28": "the database refuses the login",
    "3D": "the server has no database of that name",
    "SQLITE_NOTADB": "the file is not a SQLite database",
}


def refusal(error: Unavailable) -> str | None:
    """Why waiting will not help, if that is so: the database answered, and it is the URL that is wrong."""
    cause = error.__cause__
    code = _code(cause.orig if isinstance(cause, sa.exc.DBAPIError) else cause)
    return next((why for prefix, why in _REFUSALS.items() if code.startswith(prefix)), None)


def violated_constraint(error: sa.exc.IntegrityError) -> str:
    """The name of the unique or check constraint that was broken, as `make_metadata` names them; empty if unknown.

    SQLite tells the columns of a unique constraint, not its name: a primary key's reads as `uq_…` there.
    """
    name = getattr(error.orig.__cause__, "constraint_name", None) if error.orig else None  # asyncpg's
    if isinstance(name, str):
        return name
    text = str(error.orig)
    if match := _SQLITE_UNIQUE.search(text):
        columns = [column.strip() for column in match[1].split(",")]
        table = columns[0].partition(".")[0]
        return "_".join(["uq", table, *(column.partition(".")[2] for column in columns)])
    return match[1] if (match := _SQLITE_CHECK.search(text)) else ""


def _away(error: BaseException | None) -> Unavailable:
    _log.warning("database_unavailable", error=type(error).__name__, code=_code(error))
    return Unavailable("the database is not available")


def _code(error: BaseException | None) -> str:
    """PostgreSQL's SQLSTATE or SQLite's name of the error; both are on the driver's exception or on its cause."""
    for source in (error, error.__cause__ if error else None):
        for name in ("sqlstate", "sqlite_errorname"):
            if isinstance(code := getattr(source, name, None), str):
                return code
    return ""
