"""uvicorn in the process's own event loop, with the life that `grpc_registry.lifecycle.serving` gives to servers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Callable, Generator
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from shop_services.gateway.connection import Connection, ConnectionBounds, Connections
from shop_services.gateway.pressure import Relieved

_BETWEEN_SWEEPS = 1.0
_FORCED = 1


class HttpServer:
    """Serves an ASGI application on a bound socket. It starts and stops as a `grpc.aio.Server` does.

    The pressure of a `Relieved` one is asked about requests before they are anybody's work. `bounds` are those of the
    connections. With `tls` it serves HTTPS. `stopping` is called when it begins to stop, to end what would go on.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        bounds: ConnectionBounds | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        connections = Connections(bounds, app.pressure if isinstance(app, Relieved) else None)
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="error",  # whoever sends nonsense does not fill the log
            access_log=False,  # the application writes its own
            server_header=False,
            proxy_headers=False,
            http=partial(Connection, among=connections),  # type: ignore[arg-type]  # called, and nothing else
            timeout_keep_alive=math.ceil(connections.bounds.idle),
        )
        config.load()
        config.ssl = tls  # uvicorn would make its own, of files that it reads once
        self._uvicorn = _Uvicorn(config, connections)
        # Accepted sockets inherit it. asyncio sets it only on sockets whose protocol was given by name, and without it
        # Nagle's algorithm holds the body back until the client has acknowledged the headers: 40 ms for each answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listener = listener
        self._stopping = stopping
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept connections from now on."""
        self._serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._listener]), name="http server")
        started = asyncio.create_task(self._uvicorn.has_started.wait())
        await asyncio.wait((started, self._serving), return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            await self._serving  # raises why it could not start

    async def stop(self, grace: float | None) -> None:
        """Close the socket and idle connections, and wait for the requests that run, for `grace` seconds at most.

        Without a grace they are cancelled at once, those of an earlier `stop` that still waits for them as well.
        """
        if self._serving is None or self._serving.done():
            return
        self._stopping()
        if grace is None:
            self._uvicorn.force_exit = True
            for request in tuple(self._uvicorn.server_state.tasks):
                request.cancel()
        self._uvicorn.config.timeout_graceful_shutdown = _FORCED if grace is None else math.ceil(grace)
        self._uvicorn.should_exit = True
        await asyncio.wait((self._serving,))


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process, tells when it has started, and looks after the connections."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections
        self.has_started = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # it would give a TLS handshake a minute, in which a connection is nobody's yet
        config, loop = self.config, asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            protocol = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)
            return protocol(config=config, server_state=self.server_state, app_state=self.lifespan.state)

        handshake = self._connections.bounds.head if config.ssl else None
        for listener in sockets or ():
            self.servers.append(
                await loop.create_server(
                    connection, sock=listener, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=handshake
                )
            )
        self._sweep()
        self.has_started.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().shutdown(sockets)
        finally:
            self._next_sweep.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_sweep = loop.call_later(_BETWEEN_SWEEPS, self._sweep)  # whatever becomes of this one
        self._connections.sweep(self.server_state.connections, loop.time())
