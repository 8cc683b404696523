"""A connection to NATS that is lost is noticed, and made again."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from random import Random

import pytest
from structlog.testing import capture_logs

from shop_services.messaging.jetstream.connection import PROBE, Connection
from tests.elapsed import measured
from tests.integration.client.proxy import Proxy
from tests.servers import Nats, free_port


async def test_a_connection_that_breaks_amid_writing_is_lost_at_once(nats: Nats) -> None:
    """Where the client finds bytes to send when its connection breaks, it is not left to a probe to notice."""
    proxy = await Proxy(nats.port).start()
    connection = Connection(f"nats://127.0.0.1:{proxy.port}", name="tester", rng=Random(1))
    link = await connection.link(5.0)
    link.client._pending.append(b"PING\r\n")
    link.client._pending_data_size += 6
    for writer in proxy._writers:  # reset, not closed
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    async with measured() as elapsed, asyncio.timeout(30):
        proxy.cut()
        await link.lost.wait()
        assert elapsed.seconds < PROBE / 4
    again = await connection.link(5.0)
    assert again is not link
    await again.client.flush()
    await connection.close()
    await proxy.stop()


async def test_a_connection_that_the_client_stops_reading_is_lost_at_once(nats: Nats) -> None:
    """Where the client can do nothing with an answer, it reads no more and tells nobody: nothing would be heard."""
    connection = Connection(nats.url, name="tester", rng=Random(1))
    link = await connection.link(5.0)
    nobodys: asyncio.Future[bool] = asyncio.Future()
    nobodys.cancel()
    link.client._pongs.append(nobodys)
    async with measured() as elapsed, asyncio.timeout(30):
        flushing = asyncio.create_task(link.client.flush())
        await link.lost.wait()
        assert elapsed.seconds < PROBE / 4
    flushing.cancel()
    await asyncio.wait([flushing])
    again = await connection.link(5.0)
    assert again is not link
    await again.client.flush()
    await connection.close()


async def test_a_wait_that_was_given_up_costs_no_connection(nats: Nats) -> None:
    """The answer to a flush may come when nobody waits for it any more."""
    proxy = await Proxy(nats.port).start()
    connection = Connection(f"nats://127.0.0.1:{proxy.port}", name="tester", rng=Random(1))
    link = await connection.link(5.0)
    proxy.back.freeze()
    with pytest.raises(TimeoutError):
        async with link.wait(0.05):
            await link.client.flush()
    proxy.thaw()
    await link.client.flush()
    assert await connection.link(5.0) is link
    assert not link.lost.is_set()
    await connection.close()
    await proxy.stop()


@pytest.mark.parametrize("steps", range(25))
async def test_a_connection_can_be_closed_at_any_moment_of_its_making(nats: Nats, steps: int) -> None:
    """Also where an answer is there already when it is closed, and the client takes that for the end of its wait."""
    await close_after(steps, nats.url)


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("steps", range(15))
async def test_a_connection_can_be_closed_at_any_moment_of_an_outage(servers: int, steps: int) -> None:
    """Also where it has just been refused: the client, left alone, would try the next server, and so on for ever."""
    await close_after(steps, "nats://" + ",".join(f"127.0.0.1:{free_port()}" for _ in range(servers)))


async def close_after(steps: int, url: str) -> None:
    """Close a connection after so many steps of the loop, and a moment in which that stood still."""
    connection = Connection(url, name="tester", rng=Random(1))
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(0.02)  # noqa: ASYNC251 - as while the port of a server is bound, and NATS answers meanwhile
    await asyncio.sleep(0)
    async with measured() as elapsed, asyncio.timeout(30):
        await connection.close()
        assert elapsed.seconds < 3
        assert elapsed.wall < 10  # also if it blocks the loop
    assert connection.closed


async def test_a_refusal_is_told_though_the_server_hangs_up_before_it_is_heard() -> None:
    """Where only one of a server's refusals gets through, that is the reason of the outage, and is logged."""
    words = iter([b"", b"-ERR 'Authorization Violation'\r\n"])
    asked = asyncio.Semaphore(0)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","max_payload":1024}\r\n')
        await reader.readuntil(b"PING\r\n")
        if said := next(words, b""):
            writer.write(said)
            await writer.drain()
        else:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        asked.release()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    with capture_logs() as logs:
        connection = Connection(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", name="tester", rng=Random(1))
        async with asyncio.timeout(30):
            for _ in range(5):
                await asked.acquire()
        with pytest.raises(TimeoutError, match=r"NATS is away: .*'Authorization Violation'"):
            await connection.link(0.01)
        await connection.close()
    server.close()
    await server.wait_closed()
    reset, refused = logs
    assert reset["event"] == refused["event"] == "NATS is away"
    assert "ConnectionResetError" in reset["reason"]
    assert "Authorization Violation" in refused["reason"]
