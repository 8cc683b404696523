"""Which servers a URL names, and how waits end."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from unittest.mock import Mock

import pytest

from shop_services.messaging.jetstream import connection
from shop_services.messaging.jetstream.connection import Link, servers


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("nats://a:4222", (["nats://a:4222"], {})),
        ("nats://a:4222,b:4222", (["nats://a:4222", "nats://b:4222"], {})),
        ("tls://shop:p%40ss:@a:1,b:2", (["tls://a:1", "tls://b:2"], {"user": "shop", "password": "p@ss:"})),
        ("nats://secret@a:1", (["nats://a:1"], {"token": "secret"})),
    ],
)
def test_a_url_may_name_several_servers(url: str, named: tuple[list[str], dict[str, str]]) -> None:
    """Scheme and credentials stand once and hold for each, and nothing of the credentials is left in an address."""
    assert servers(url) == named


@pytest.mark.parametrize("instead", [None, ConnectionError("the client's word for it")])
async def test_a_wait_ends_by_a_cancellation_that_the_client_swallowed(instead: Exception | None) -> None:
    """Whether the client goes on as if nothing had happened, or raises an error of its own."""
    link, begun = Link(Mock()), asyncio.Event()

    async def ask() -> None:
        async with link.wait(60):
            try:
                begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if instead is not None:
                    raise instead from None

    task = asyncio.create_task(ask())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_wait_ends_after_its_time_and_with_its_connection() -> None:
    """Both are a `TimeoutError`, and no cancellation of the task, which goes on."""
    link = Link(Mock())
    with pytest.raises(TimeoutError):
        async with link.wait(0.01):
            await asyncio.Event().wait()
    asyncio.get_running_loop().call_soon(link.lose)
    with pytest.raises(TimeoutError):
        async with link.wait(None):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_connection_is_closed_though_the_client_swallowed_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that connects in spite of its being cancelled keeps nobody waiting, and is closed itself."""
    begun, closed = asyncio.Event(), asyncio.Event()

    class Stubborn(Mock):
        async def connect(self, **options: object) -> None:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        async def flush(self, timeout: float = 0) -> None:
            """The server answers."""

        async def close(self) -> None:
            closed.set()

    monkeypatch.setattr(connection, "OrderedClient", Stubborn)
    made = connection.Connection("nats://127.0.0.1:1", name="tester", rng=Random(1))
    async with asyncio.timeout(10):
        await begun.wait()
        await made.close()
    assert made.closed
    assert closed.is_set()
