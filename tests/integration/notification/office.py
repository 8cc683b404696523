"""The worker in the test's process, with a real user service, and with whatever the test put at the SMTP port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from grpc_registry import Registry, connect
from shop.events.v1.events_pb2 import Envelope
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.messaging.bus import Message
from shop_services.messaging.memory import MemoryBus, shared_broker
from shop_services.notification import storage
from shop_services.notification.domain import Mail, State
from shop_services.notification.wiring import TOPIC, wire
from shop_services.runtime.app import App
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.settings import Settings
from shop_services.storage import Database
from shop_services.user.wiring import wire as wire_user
from tests.integration.order.shop import create_user, served

SECONDS = 60


@dataclass
class Office:
    """A running worker. The user `ann` has the address ann@example.com."""

    registry: Registry
    settings: Settings
    bus: MemoryBus
    database: Database
    app: App
    ann: str

    async def tell(self, envelope: Envelope) -> None:
        """Publish a message to the worker's topic."""
        await self.bus.publish(Message(TOPIC, envelope))

    async def mail(self, order_id: str, *states: State) -> Mail:
        """The e-mail about an order, when it is in one of `states`."""
        return await mail_in(self.database, order_id, *states)

    async def given_up(self) -> str:
        """Why the first dead letter was given up, when there is one."""
        async with asyncio.timeout(SECONDS):
            while True:
                if letters := self.bus.dead_letters:
                    return letters[0].reason
                await asyncio.sleep(0.02)

    async def idle(self) -> None:
        """Return when every message was handled."""
        async with asyncio.timeout(SECONDS):
            while True:
                if not self.bus.broker.topic(TOPIC).held:
                    return
                await asyncio.sleep(0.02)

    async def delete_user(self, user_id: str) -> None:
        """Close an account by RPC."""
        async with operator_channel("user", self.registry, self.settings) as channel:
            await UserServiceStub(channel).DeleteUser(user_pb2.DeleteUserRequest(user_id=user_id))


async def mail_in(database: Database, order_id: str, *states: State) -> Mail:
    """The e-mail about an order, when it is in one of `states`. Raises `TimeoutError`."""
    async with asyncio.timeout(SECONDS):
        while True:
            async with database.reading() as connection:
                mail = await storage.find(connection, order_id)
            if mail is not None and mail.state in states:
                return mail
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_office(settings: Settings, smtp_port: int) -> AsyncIterator[Office]:
    """Start the worker, which sends to `smtp_port`."""
    settings = replace(settings, smtp_url=f"smtp://127.0.0.1:{smtp_port}")
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(connect("memory://"))
        users = await stack.enter_async_context(wire_user(settings, registry))
        await stack.enter_async_context(served(users, registry))
        app = await stack.enter_async_context(wire(settings, registry))
        await stack.enter_async_context(served(app, registry))
        database = await stack.enter_async_context(
            Database(settings.database("notification"), service="notification", pool=1)
        )
        bus = MemoryBus(shared_broker(settings.nats_url.removeprefix("memory://")))
        yield Office(registry, settings, bus, database, app, await create_user(registry, "ann"))
