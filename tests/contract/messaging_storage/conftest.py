"""The contracts of outbox and inbox hold on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.contract.messaging_storage.box import FlakyDatabase, metadata
from tests.patience import patient_storage


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_seconds(self, seconds: float) -> None:
        """Move it on."""
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """The time of every process of a test."""
    return Clock()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient_storage(monkeypatch, 30.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[FlakyDatabase]:
    """Units of work on it, with the tables made."""
    async with FlakyDatabase(database_url, service="test") as opened:
        async with opened.transaction() as connection:
            await connection.run_sync(metadata.create_all)
        yield opened
