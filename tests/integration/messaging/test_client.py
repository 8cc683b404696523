"""What the client tells the server comes in the order in which it was said."""

from __future__ import annotations

import asyncio

from nats.aio.msg import Msg

from shop_services.messaging.jetstream.client import OrderedClient


async def test_what_was_on_its_way_when_a_subscription_ended_is_heard() -> None:
    """The last message is sent just before the server reads that no more is wanted: `drain` waits for it.

    Its question, whether that was all, must not overtake that: a busy server would answer it before the last message.
    """
    said: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","max_payload":1024}\r\n')
        while line := await reader.readline():
            said.append(line.split()[0])
            match line.split():
                case [b"PING"]:
                    writer.write(b"PONG\r\n")
                case [b"UNSUB", subscription, *_]:
                    writer.write(b"MSG topic " + subscription + b" 4\r\nlast\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    client = OrderedClient()
    async with asyncio.timeout(30):
        await client.connect(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", allow_reconnect=False)
        subscription = await client.subscribe("topic", cb=hear)
        await subscription.drain()  # type: ignore[no-untyped-call]
        assert heard == [b"last"]
        assert said[-2:] == [b"UNSUB", b"PING"]
        await client.close()
    server.close()
    await server.wait_closed()
