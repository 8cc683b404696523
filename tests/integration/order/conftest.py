"""The order service as two instances on one database, over SQLite and over PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shop_services.runtime.settings import Settings
from tests.integration.order.shop import Shop, open_shop


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a shop without any tables yet."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    data = tmp_path / "data"
    return Settings(registry_url="memory://", database_url=url, nats_url=f"memory://{tmp_path}", data=data)


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    """Real users and products, and two instances of the order service that ask them."""
    async with open_shop(settings) as made:
        yield made
