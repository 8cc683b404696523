"""Looking into streams: at the little that is kept of failures, by subject, at how long the line of a topic is, and at
what a stream says of itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import nats.errors
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from shop_services.messaging.bus import BusUnavailable
from shop_services.messaging.jetstream.connection import Connection, Link
from shop_services.messaging.jetstream.streams import stream_name

_PATIENCE = 5.0  # seconds for a connection, and for each answer


async def read(connection: Connection, stream: str, subject: str) -> AsyncIterator[RawStreamMsg]:
    """The messages of a subject, which may have wildcards, oldest first. No stream is an empty one.

    Raises:
        BusUnavailable: the server did not answer.
    """
    after = 0
    while True:
        try:
            link = await connection.link(_PATIENCE)
            async with link.wait(_PATIENCE):
                found = await link.jetstream.get_msg(stream_name(stream), seq=after + 1, subject=subject, next=True)
        except NotFoundError:
            return
        except (TimeoutError, nats.errors.Error) as error:
            raise BusUnavailable(f"{stream_name(stream)} cannot be read: {str(error) or 'no answer'}") from error
        yield found
        after = found.seq or after + 1


async def held(connection: Connection, topic: str) -> int:
    """How many messages the topic has that are not done. A stream that is not there has none.

    Raises:
        BusUnavailable: the server did not answer.
    """
    try:
        link = await connection.link(_PATIENCE)
        async with link.wait(_PATIENCE):
            return (await link.jetstream.stream_info(stream_name(topic))).state.messages
    except NotFoundError:
        return 0
    except (TimeoutError, nats.errors.Error) as error:
        raise BusUnavailable(f"{stream_name(topic)} cannot be asked: {str(error) or 'no answer'}") from error


@dataclass(frozen=True, slots=True)
class Condition:
    """What a stream says of itself: when it was made (unlike that of any other), what is in it, the server's time."""

    created: str
    messages: int
    bytes: int
    last: int
    time: datetime


async def condition(link: Link, stream: str) -> Condition:
    """How the stream is now.

    Raises:
        nats.errors.Error: there is no such stream, or the server refused.
    """
    answer = await link.client.request(f"$JS.API.STREAM.INFO.{stream_name(stream)}", timeout=_PATIENCE)
    told = json.loads(answer.data)
    if "error" in told:
        raise nats.errors.Error(told["error"].get("description", ""))
    state = told["state"]
    return Condition(
        created=told["created"],
        messages=state["messages"],
        bytes=state["bytes"],
        last=state["last_seq"],
        time=datetime.fromisoformat(told["ts"]),
    )
