"""A worker whose handler always raises, until a directory is there: `failing_worker.py NATS_URL TOPIC DIRECTORY`.

Then it makes a file there for each message that it has handled, named by the message's id.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.jetstream import JetStreamBus
from shop_services.messaging.retry import RetryPolicy

ATTEMPTS = 4


async def work(url: str, topic: str, handled: Path) -> None:
    async def handle(envelope: Envelope) -> None:
        (handled / envelope.id).touch()

    bus = JetStreamBus(url, name="failing")
    async with bus.subscribe(topic, handle, concurrency=2, retries=RetryPolicy(attempts=ATTEMPTS, first=0.05)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
