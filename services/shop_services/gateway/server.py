"""uvicorn in the process's own event loop, with the life that `grpc_registry.lifecycle.serving` gives to servers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: more than the 60 that proxies keep theirs, so that they close first."""

_FORCED = 1


class HttpServer:
    """Serves an ASGI application on a bound socket. It starts and stops as a `grpc.aio.Server` does."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,  # the application writes its own
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        self._uvicorn = _Uvicorn(config)
        # Accepted sockets inherit it. asyncio sets it only on sockets whose protocol was given by name, and without it
        # Nagle's algorithm holds the body back until the client has acknowledged the headers: 40 ms for each answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listener = listener
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
        if grace is None:
            self._uvicorn.force_exit = True
            for request in tuple(self._uvicorn.server_state.tasks):
                request.cancel()
        self._uvicorn.config.timeout_graceful_shutdown = _FORCED if grace is None else math.ceil(grace)
        self._uvicorn.should_exit = True
        await asyncio.wait((self._serving,))


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process, and tells when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()
