"""The contract of storage holds on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shop_services.storage import Database, engine
from shop_services.storage import database as database_module


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a turn waits for longer than in production: a busy machine is not what this is about."""
    for module in (engine, database_module):
        monkeypatch.setattr(module, "WAIT", 30.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Units of work on it."""
    async with Database(database_url, service="test") as opened:
        yield opened
