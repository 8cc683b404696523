"""A connection to NATS that is lost is noticed, and made again."""

from __future__ import annotations

import asyncio
import socket
import struct
from random import Random

from shop_services.messaging.jetstream.connection import PROBE, Connection
from tests.integration.client.proxy import Proxy
from tests.servers import Nats


async def test_a_connection_that_breaks_amid_writing_is_lost_at_once(nats: Nats) -> None:
    """Where the client finds bytes to send when its connection breaks, it is not left to a probe to notice."""
    proxy = await Proxy(nats.port).start()
    connection = Connection(f"nats://127.0.0.1:{proxy.port}", name="tester", rng=Random(1))
    link = await connection.link(5.0)
    link.client._pending.append(b"PING\r\n")
    link.client._pending_data_size += 6
    for writer in proxy._writers:  # reset, not closed
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    proxy.cut()
    async with asyncio.timeout(PROBE / 4):
        await link.lost.wait()
    again = await connection.link(5.0)
    assert again is not link
    await again.client.flush()
    await connection.close()
    await proxy.stop()
