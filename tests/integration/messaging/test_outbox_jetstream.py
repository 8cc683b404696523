"""An outbox over a real JetStream server that is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import Message
from shop_services.messaging.jetstream import JetStreamBus
from shop_services.messaging.outbox import Outbox, outbox_table
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, make_metadata
from tests.servers import Nats

metadata = make_metadata()
table = outbox_table(metadata, "test")


async def test_what_is_committed_while_the_server_is_dead_arrives(nats: Nats, tmp_path: Path) -> None:
    """Messages of before, during and after the outage are all handled, and no row is left."""
    bus = JetStreamBus(nats.url, name="test")
    handled: Counter[str] = Counter()

    async def handle(envelope: Envelope) -> None:
        handled[envelope.id] += 1

    async with Database(f"sqlite:///{tmp_path}/shop.db", service="test") as database:
        async with database.transaction() as connection:
            await connection.run_sync(metadata.create_all)
        outbox = Outbox(database, table, bus, utc_now)

        async def commit(prefix: str) -> None:
            written = [Message("orders", Envelope(id=f"{prefix}{n}", type="order.reserve")) for n in range(20)]
            async with database.transaction() as connection:
                await outbox.add(connection, written)
            outbox.committed(written)

        async with bus.subscribe("orders", handle, concurrency=3, retries=RetryPolicy()), outbox.relaying():
            await commit("before")
            await asyncio.to_thread(nats.kill)
            await commit("during")
            await asyncio.to_thread(nats.start)
            await commit("after")
            async with asyncio.timeout(40):
                while len(handled) < 60 or (await outbox.pending()).count:  # noqa: ASYNC110  # a server tells of no change
                    await asyncio.sleep(0.05)
        async with database.reading() as connection:
            assert not (await connection.execute(sa.select(table.c.id))).all()
    await bus.close()
