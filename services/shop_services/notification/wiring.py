"""The only place that puts the parts of the notifications worker together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from grpc_registry import Registry
from shop_services.messaging.connect import connect_bus
from shop_services.messaging.inbox import Inbox
from shop_services.notification import storage
from shop_services.notification.notifier import RETRIES, Notifier
from shop_services.notification.post import MailServer, SmtpPost
from shop_services.notification.upstream import UserService
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.outgoing import service_channel
from shop_services.runtime.settings import Settings
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, migrate

NAME = "notifications-worker"
TOPIC = "notifications"
SERVICE = "notification"
MIGRATIONS = Path(__file__).parent / "migrations"
CONCURRENCY = 1
"""E-mails sent at a time where SHOP_CONCURRENCY does not say."""


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The worker of the topic `notifications`. It asks the service `user` that `registry` knows, and serves nothing."""
    authority = Authority.open(settings, SERVICE)
    async with AsyncExitStack() as stack:
        ca = None if settings.tls_dir is None else settings.tls_dir / "ca.pem"
        post = SmtpPost(MailServer.of(settings.smtp_url), settings.mail_from, ca=ca)
        database = await stack.enter_async_context(Database.of(settings, SERVICE))
        await migrate(database, SERVICE, MIGRATIONS)
        inbox = Inbox(database, storage.inbox, utc_now)
        await stack.enter_async_context(inbox.sweeping())
        channel = await stack.enter_async_context(service_channel("user", registry, settings, authority))
        notifier = Notifier(database, inbox, UserService(channel), post, settings.mail_from, utc_now)
        bus = connect_bus(settings, name=NAME, identity=SERVICE)
        stack.push_async_callback(bus.close)
        subscription = await stack.enter_async_context(
            bus.subscribe(TOPIC, notifier.handle, concurrency=settings.concurrency or CONCURRENCY, retries=RETRIES)
        )
        yield App(NAME, {}, drain=partial(subscription.drain, settings.grace), authority=authority)
