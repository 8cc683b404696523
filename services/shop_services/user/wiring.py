"""The only place that puts the parts of the user service together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from grpc_registry import Registry
from shop.user.v1 import user_pb2, user_pb2_grpc
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.identity.issuing import Issuer
from shop_services.runtime.ids import new_id
from shop_services.runtime.settings import Settings
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, Replies, migrate
from shop_services.user import login_storage, storage
from shop_services.user.login_usecases import Logins
from shop_services.user.passwords import Passwords
from shop_services.user.servicer import UserServicer
from shop_services.user.usecases import Users

NAME = "user"
MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The user service; it calls no other, so it has no use for `registry`."""
    authority = Authority.open(settings, NAME)
    issuer = Issuer.open(settings)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(settings, NAME))
        await migrate(database, NAME, MIGRATIONS)
        replies = Replies(database, storage.replies, utc_now)
        await stack.enter_async_context(replies.sweeping())
        passwords = await stack.enter_async_context(Passwords())
        logins = Logins(database, passwords, issuer, utc_now, new_id)
        for table in (login_storage.logins, login_storage.attempts):
            await stack.enter_async_context(logins.sweeping(table))
        servicer = UserServicer(Users(database, passwords, utc_now, new_id), logins, replies)
        service = user_pb2.DESCRIPTOR.services_by_name["UserService"].full_name
        add = partial(user_pb2_grpc.add_UserServiceServicer_to_server, servicer)
        yield App(NAME, {service: add}, authority=authority)
