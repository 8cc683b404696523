"""What the broker still holds, asked of the broker itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import nats
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from shop.events.v1.events_pb2 import DeadLetter
from shop_services.messaging.bus import TOPICS
from shop_services.messaging.jetstream.streams import DEAD_LETTERS, stream_name
from shop_services.runtime.errors import Unavailable


async def waiting_messages(url: str) -> dict[str, int]:
    """How many messages of each topic are not done yet, delivered or not; without topics that have none.

    Raises:
        Unavailable: the broker does not say.
    """
    async with _jetstream(url) as jetstream:
        streams = {info.config.name: info.state.messages for info in await jetstream.streams_info()}
    return {f"messages of {topic}": count for topic in TOPICS if (count := streams.get(stream_name(topic), 0))}


async def dead_letters(url: str) -> list[str]:
    """A line for every message that was given up. Raises `Unavailable` as well."""
    lines, stream = [], stream_name(DEAD_LETTERS)
    async with _jetstream(url) as jetstream:
        with suppress(NotFoundError):  # the stream is made with the first
            state = (await jetstream.stream_info(stream)).state
            for number in range(state.first_seq, state.last_seq + 1):
                letter = DeadLetter.FromString((await jetstream.get_msg(stream, number)).data or b"")
                lines.append(f"{letter.id} {letter.envelope.type} of {letter.envelope.order_id}: {letter.reason}")
    return lines


@asynccontextmanager
async def _jetstream(url: str) -> AsyncIterator[JetStreamContext]:
    try:
        client = await nats.connect(url, max_reconnect_attempts=2)
        try:
            yield client.jetstream()
        finally:
            await client.close()
    except (Error, OSError, TimeoutError) as error:
        raise Unavailable(f"the broker cannot be asked: {error!r}") from error
