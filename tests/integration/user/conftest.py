"""The user service as it is wired in production, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import grpc_registry
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import running
from shop_services.user.wiring import wire


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/user.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def users(database_url: str) -> AsyncIterator[UserServiceStub]:
    """A stub of a running user service."""
    async with (
        grpc_registry.connect("memory://") as registry,
        wire(Settings(database_url=database_url), registry) as app,
        running(app) as channel,
    ):
        yield UserServiceStub(channel)
