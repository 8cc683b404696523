from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.integration.gateway.serving import ZooServer, zoo_gateway


@pytest.fixture
async def zoo_server() -> AsyncIterator[ZooServer]:
    """A zoo that serves gRPC."""
    async with ZooServer().running() as server:
        yield server


@pytest.fixture
async def client(zoo_server: ZooServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway before that zoo."""
    async with zoo_gateway(zoo_server.address) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client() -> AsyncIterator[httpx.AsyncClient]:
    """The same for a module whose tests look at nothing but the answers."""
    async with ZooServer().running() as server, zoo_gateway(server.address) as client:
        yield client
