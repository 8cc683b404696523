"""The NATS client, with a `flush` that means what it says, and that may be given up."""

from __future__ import annotations

import asyncio

from nats.aio.client import PING_PROTO, Client


class OrderedClient(Client):
    """A `PING` goes out after all that was written before it, and its `PONG` may come when nobody waits any more.

    nats-py 2.16 sends a `PING` past what waits to be sent. So `Subscription.drain` could hear that the server "has sent
    all messages" before the server knew that no more were wanted; what came then was dropped, and held for its
    `ack_wait`. And the answer to a `flush` that was cancelled ended its reading.
    """

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if future is not None:
            answered.add_done_callback(lambda _: _tell(future))
        self._pongs.append(answered)
        # Not by `_send_command`, which may wait for room, and takes a cancellation meanwhile for the end of that.
        self._pending.append(PING_PROTO)
        self._pending_data_size += len(PING_PROTO)
        await self._flush_pending()


def _tell(waiting: asyncio.Future[bool]) -> None:
    if not waiting.done():
        waiting.set_result(True)
