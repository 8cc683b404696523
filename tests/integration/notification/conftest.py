"""Notifications over SQLite and over PostgreSQL, with a bus and a registry in memory."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from shop_services.runtime.settings import Settings
from tests.patience import patient_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a shop without any tables yet."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    bus = f"memory://{uuid4().hex}"
    return Settings(registry_url="memory://", database_url=url, nats_url=bus, data=tmp_path / "data")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes with many others at once, or just before this machine stands still, waits for as long as it takes:
    that the service refuses those who would wait for longer is not shown here."""
    patient_storage(monkeypatch, 60.0)
