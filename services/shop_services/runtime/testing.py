"""For tests of services: an app on a real server, with every interceptor, and a channel to it, without a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc

from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority, Credentials, bearer
from shop_services.runtime.identity.caller import Anonymous, Caller, Person
from shop_services.runtime.identity.issuing import Issuer
from shop_services.runtime.operator import OPERATOR
from shop_services.runtime.outgoing import OutgoingChannel
from shop_services.runtime.server import make_server

_TTL = 3600.0


@asynccontextmanager
async def running(app: App, *, caller: Caller = OPERATOR) -> AsyncIterator[grpc.aio.Channel]:
    """Serve `app` on a free port of the loopback, and yield a channel to it, for calls by `caller`.

    Its health is SERVING. An app without an authority gets one with keys of its own.
    """
    authority = app.authority or Authority.in_memory(app.name)
    server = make_server(replace(app, authority=authority))
    port = server.grpc.add_insecure_port("127.0.0.1:0")
    await server.grpc.start()
    await server.report(serving=True)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield OutgoingChannel(channel, None, credentials=credentials_of(caller, authority))
    finally:
        await server.enter_graceful_shutdown()
        await server.grpc.stop(None)


def credentials_of(caller: Caller, authority: Authority) -> Credentials:
    """The metadata of calls by `caller` to the service whose `authority` this is."""
    if isinstance(caller, Anonymous):
        return tuple
    if isinstance(caller, Person):
        token = Issuer(authority.keys, _TTL, _TTL).access(caller.id, caller.role).token
        return lambda: bearer(token)
    return authority.sibling(caller.name).credentials_for(authority.name)
