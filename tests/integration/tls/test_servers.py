"""etcd, NATS, PostgreSQL and Valkey with certificates on both sides, as services use them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.tls.conftest import Make
from tests.integration.tls.servers import KINDS, Asking, Place, started


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, certificates: Path, tmp_path: Path) -> AsyncIterator[Place]:
    async with started(request.param, certificates, tmp_path / "data") as place:
        yield place


async def answered(ask: Asking, seconds: float = 60.0) -> None:
    """Return as soon as the server answers; it is asked again until then."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await ask()
            except Exception as error:
                last = error
            await asyncio.sleep(0.1)
    raise last


async def test_who_has_a_certificate_is_let_in(place: Place) -> None:
    """A service's client comes through with the files of SHOP_TLS_DIR, and asks as long as it likes."""
    async with AsyncExitStack() as stack:
        ask = place.server.asking(place.settings(place.certificates), stack)
        await answered(ask)
        await ask()


async def test_nobody_else_is(place: Place, foreign: Path) -> None:
    """Without encryption, or with a certificate of another authority, nothing is answered."""
    for directory in (None, foreign):
        async with AsyncExitStack() as stack:
            ask = place.server.asking(place.settings(directory), stack)
            with pytest.raises(Exception, match=r".*"):
                async with asyncio.timeout(5):
                    await ask()


async def test_nobody_else_is_believed(place: Place, certificates: Path, make: Make, tmp_path: Path) -> None:
    """A server whose certificate is of an authority that the client does not trust gets no question."""
    suspicious = shutil.copytree(certificates, tmp_path / "suspicious")
    shutil.copy(make("another") / "ca.pem", suspicious / "ca.pem")
    async with AsyncExitStack() as stack:
        ask = place.server.asking(place.settings(suspicious), stack)
        with pytest.raises(Exception, match=r".*"):
            async with asyncio.timeout(5):
                await ask()


async def test_the_next_connection_uses_the_files_of_then(place: Place, make: Make) -> None:
    """A client that lives on comes through when authority and certificates were all replaced: no restart of it."""
    async with AsyncExitStack() as stack:
        ask = place.server.asking(place.settings(place.certificates), stack)
        await answered(ask)
        await place.server.kill()
        for name in ("ca.pem", "ca.key"):
            (place.certificates / name).unlink()
        make(place.certificates.name)
        await place.server.start()
        await answered(ask)
