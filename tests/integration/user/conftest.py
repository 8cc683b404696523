"""The user service as it is wired in production, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import grpc_registry
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.runtime.app import App
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import running
from shop_services.user.wiring import wire
from tests.patience import patient_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/user.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes with many others at once, or just before this machine stands still, waits for as long as it takes:
    that the service refuses those who would wait for longer is not shown here."""
    patient_storage(monkeypatch, 60.0)


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[App]:
    """The user service, put together."""
    settings = Settings(database_url=database_url, data=tmp_path / "data")
    async with grpc_registry.connect("memory://") as registry, wire(settings, registry) as app:
        yield app


@pytest.fixture
async def users(app: App) -> AsyncIterator[UserServiceStub]:
    """A stub of it, running, for calls by an admin."""
    async with running(app) as channel:
        yield UserServiceStub(channel)
