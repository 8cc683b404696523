"""Payment providers on real servers, over SQLite and over PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import grpc_registry
from shop_services.payment.wiring import wire
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import running
from tests.integration.payment.till import Start, Till
from tests.patience import patient_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'payment.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes with many others at once, or just before this machine stands still, waits for as long as it takes:
    that the service refuses those who would wait for longer is not shown here."""
    patient_storage(monkeypatch, 60.0)


@pytest.fixture
async def start(database_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts one more instance over the database of the test."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(grpc_registry.connect("memory://"))

        async def start() -> Till:
            settings = Settings(database_url=database_url, data=tmp_path)
            app = await stack.enter_async_context(wire(settings, registry))
            return Till(await stack.enter_async_context(running(app)))

        yield start


@pytest.fixture
async def till(start: Start) -> Till:
    """One instance."""
    return await start()
