"""A process that is one hop of bare JetStream: it takes messages of a topic and publishes each to the next one.

It waits until that is acknowledged, then acknowledges its own: what a worker of the shop does, without database, calls
and handler. It fetches as the shop's workers do, and handles as many messages at a time as they do by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import uuid4

import nats
import nats.errors
from google.type.money_pb2 import Money
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from shop.events.v1.events_pb2 import Envelope, OrderEnded, OrderEndedItem
from shop_services.messaging.bus import TOPICS
from tests.servers import ServerProcess

CONCURRENCY = (3, 2, 2, 1)
LEAVING = TOPICS.index("inventory")
"""The hop at which an order would be FULFILLED."""
COUNT, TIMES = "bench.ask.count", "bench.ask.times"
"""Subjects at which the leaving hop tells how many came there since its start, and when: a pair for each that came
since it was asked last, the moment that the message carries and the one at which it was there."""

_DUE = struct.Struct("<d")
_FETCH_SECONDS = 60.0


def name(hop: int) -> str:
    """What the stream and the consumer of a hop are called."""
    return f"bench-{TOPICS[hop]}"


def subject(hop: int) -> str:
    """Where the messages of a hop are published."""
    return f"bench.{TOPICS[hop]}"


async def publish(stream: JetStreamContext, hop: int, due: bytes) -> None:
    """Return when the hop's stream has a message of the size that the shop's has."""
    await stream.publish(subject(hop), due.ljust(SIZES[hop], b"\0"), headers={"Nats-Msg-Id": uuid4().hex})


def packed(due: float) -> bytes:
    """The moment that a message carries."""
    return _DUE.pack(due)


class Hop(ServerProcess):
    """The process."""

    def __init__(self, directory: Path, url: str, hop: int) -> None:
        super().__init__(directory)
        self._arguments = (str(Path(__file__).parents[2]), url, str(hop))

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", _MAIN, *self._arguments]

    def ready(self) -> bool:
        return b"ready" in self.log.read_bytes()


_MAIN = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from benchmarks.orders.hop import work
asyncio.run(work(sys.argv[2], int(sys.argv[3])))
"""


async def work(url: str, hop: int) -> None:
    """Handle the messages of a hop until killed."""
    connection = await nats.connect(url)
    stream = connection.jetstream()
    pull = await stream.pull_subscribe(subject(hop), durable=name(hop), stream=name(hop))
    came, count = array("d"), 0

    async def handle(message: Msg) -> None:
        nonlocal count
        due = message.data[: _DUE.size]
        if hop == LEAVING:
            came.extend((*_DUE.unpack(due), time.time()))
            count += 1
        if hop + 1 < len(TOPICS):
            await publish(stream, hop + 1, due)
        await message.ack()

    async def tell_count(question: Msg) -> None:
        await question.respond(str(count).encode())

    async def tell_times(question: Msg) -> None:
        await question.respond(came.tobytes())
        del came[:]

    if hop == LEAVING:
        await connection.subscribe(COUNT, cb=tell_count)
        await connection.subscribe(TIMES, cb=tell_times)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as slots:
        for _ in range(CONCURRENCY[hop]):
            slots.create_task(_handling(pull, handle))


async def _handling(pull: JetStreamContext.PullSubscription, handle: Callable[[Msg], Awaitable[None]]) -> None:
    """Handle one message after another; none is fetched ahead."""
    while True:
        with contextlib.suppress(nats.errors.TimeoutError):
            (message,) = await pull.fetch(1, timeout=_FETCH_SECONDS)
            await handle(message)


def _sizes() -> tuple[int, ...]:
    """Bytes of each hop's message in the shop."""
    return tuple(
        _envelope(type_).ByteSize() for type_ in ("order.reserve", "order.charge", "order.commit", "order.ended")
    )


def _envelope(type_: str) -> Envelope:
    made = Envelope(id=uuid4().hex, type=type_, order_id=uuid4().hex, order_version=3)
    made.time.GetCurrentTime()
    made.trace["x-request-id"] = uuid4().hex
    if type_ == "order.ended":
        total = Money(currency_code="EUR", units=45)
        items = [OrderEndedItem(product_name=f"Number {n}", quantity=1, subtotal=total) for n in range(2)]
        ended = OrderEnded(user_id=uuid4().hex, status="FULFILLED", items=items, total=total, order_time=made.time)
        made.body.Pack(ended)
    return made


SIZES = _sizes()
