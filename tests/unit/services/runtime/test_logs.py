"""Logs are JSON lines, ours and those of libraries, without secrets."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
import structlog

from shop_services.runtime import logs
from shop_services.runtime.context import RequestContext, enter


def _lines(log: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_line_says_when_what_and_who(log: StringIO) -> None:
    """Every line begins with time, level, event, service and instance."""
    structlog.get_logger("x").info("started", port=7)
    (line,) = _lines(log)
    assert list(line) == ["time", "level", "event", "service", "instance", "port"]
    assert datetime.fromisoformat(line["time"]).tzinfo == UTC
    assert (line["level"], line["event"], line["service"], line["instance"]) == ("info", "started", "probe", "i1")


async def test_a_line_of_a_call_has_its_request_id(log: StringIO) -> None:
    """What is logged while a call is served names it."""

    async def call() -> None:
        enter(RequestContext("r-9", "/p.S/M"))
        structlog.get_logger("x").info("inside")

    await asyncio.create_task(call())
    structlog.get_logger("x").info("outside")
    inside, outside = _lines(log)
    assert (inside["request_id"], inside["method"]) == ("r-9", "/p.S/M")
    assert "request_id" not in outside


def test_libraries_log_in_the_same_way(log: StringIO) -> None:
    """`logging` goes to the same lines, with its arguments, extras and tracebacks."""
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("grpc_registry").warning("lost %s", "lease", extra={"lease": 7}, exc_info=True)
    (line,) = _lines(log)
    assert (line["event"], line["lease"], line["level"], line["service"]) == ("lost lease", 7, "warning", "probe")
    assert "ValueError: broken" in line["exception"]


def test_the_level_is_respected(log: StringIO) -> None:
    """What is below the level is not written."""
    logs.configure("probe", "i1", "warning", stream=log)
    structlog.get_logger("x").info("quiet")
    logging.getLogger("y").info("quiet")
    structlog.get_logger("x").warning("loud")
    assert [line["event"] for line in _lines(log)] == ["loud"]


def test_a_library_that_talks_too_much_is_kept_at_warnings(log: StringIO) -> None:
    """alembic and SQLAlchemy say nothing below a warning, and their statements stay out of the log."""
    logging.getLogger("sqlalchemy.engine").info("SELECT password_hash")
    logging.getLogger("alembic.runtime.migration").info("Context impl")
    assert _lines(log) == []


@pytest.mark.parametrize(
    "value",
    [
        {"password": "swordfish"},
        {"user": {"Password": "swordfish"}},
        {"metadata": (("authorization", "Bearer swordfish"), ("x-request-id", "r"))},
        {"headers": [{"Cookie": "swordfish"}]},
        {"refresh_token": "swordfish", "client_secret": "swordfish", "api_key": "swordfish"},
    ],
)
def test_secrets_are_replaced_at_every_depth(value: dict[str, Any], log: StringIO) -> None:
    """A value under a name like password or authorization is not written."""
    structlog.get_logger("x").info("event", **value)
    logging.getLogger("y").warning("event", extra=value)
    assert "swordfish" not in log.getvalue()
    assert log.getvalue().count(logs.REDACTED) >= 2


def test_what_is_no_secret_stays(log: StringIO) -> None:
    """Ordinary values and page tokens are written as they are."""
    structlog.get_logger("x").info("event", page_token="abc", items=[("a", 1), 2], nested={"b": [1]})
    (line,) = _lines(log)
    assert (line["page_token"], line["items"], line["nested"]) == ("abc", [["a", 1], 2], {"b": [1]})
