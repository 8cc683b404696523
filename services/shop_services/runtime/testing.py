"""For tests of services: an app on a real server, with every interceptor, and a channel to it, without a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from shop_services.runtime.app import App
from shop_services.runtime.server import make_server


@asynccontextmanager
async def running(app: App) -> AsyncIterator[grpc.aio.Channel]:
    """Serve `app` on a free port of the loopback, and yield a channel to it; its health is SERVING."""
    server = make_server(app)
    port = server.grpc.add_insecure_port("127.0.0.1:0")
    await server.grpc.start()
    await server.report(serving=True)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.enter_graceful_shutdown()
        await server.grpc.stop(None)
