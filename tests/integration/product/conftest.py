"""Product services on real servers, over SQLite and over PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import grpc_registry
from shop_services.product import overlay
from shop_services.product.wiring import wire
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import running
from tests.integration.product.shop import Shop, Start
from tests.patience import patient_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'product.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes with many others at once, or just before this machine stands still, waits for as long as it takes:
    that the service refuses those who would wait for longer is not shown here."""
    patient_storage(monkeypatch, 60.0)
    monkeypatch.setattr(overlay, "PATIENCE", 60.0)


@pytest.fixture
async def start(database_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts one more instance over the database of the test, which keeps the latest `keep` changes; `given` are more
    of its settings."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(grpc_registry.connect("memory://"))

        async def start(keep: int = 10_000, **given: Any) -> Shop:
            given = {"nats_url": f"memory://{tmp_path.name}"} | given
            settings = Settings(registry_url="memory://", database_url=database_url, data=tmp_path, **given)
            app = await stack.enter_async_context(wire(settings, registry, keep=keep))
            return Shop(await stack.enter_async_context(running(app)), app)

        yield start


@pytest.fixture
async def shop(start: Start) -> Shop:
    """One instance."""
    return await start()
