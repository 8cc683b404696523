"""A grpc.aio server that no call of a method it does not have can end.

grpc.aio (1.85.1) decodes the names of such methods in the loop that takes all calls. One `:path` that is no UTF-8 ends
that loop: the process lives on, and refuses every connection. Here a loop of its own takes these calls, and never looks
at the name. It need not: what a server has is registered with gRPC's core by generated code, which hands the calls of
each method out by themselves, so that all others are of methods that there are not.

This is built on private parts of grpc.aio, since there is no other way in; tests hold the pinned version to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

_UNKNOWN = "unknown method"  # stands in the log for the name
_NONE = cygrpc._MethodResolver([], {})  # noqa: SLF001


def enduring_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, Any]], maximum_concurrent_rpcs: int
) -> grpc.aio.Server:
    """What `grpc.aio.server` makes, for services that generated code adds; others would not be found."""
    return cast("grpc.aio.Server", _Server(interceptors, options, maximum_concurrent_rpcs))


class _Server(_server.Server):
    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        options: Sequence[tuple[str, Any]],
        maximum_concurrent_rpcs: int,
    ) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _Core(self._loop, None, (), tuple(interceptors), tuple(options), maximum_concurrent_rpcs)


class _Core(cygrpc.AioServer):  # type: ignore[misc]
    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """Asked for by the loop that takes calls; None stands for those of methods that are not registered."""
        if method is not None:
            future: asyncio.Future[Any] = super()._make_request_call_future(method)
            return future
        return asyncio.get_running_loop().create_task(self._refuse_unknown(), name="unknown methods")

    async def _refuse_unknown(self) -> None:
        """Answer UNIMPLEMENTED until the server stops, which raises what the loop that waits for this expects then."""
        loop = asyncio.get_running_loop()
        refusing: set[asyncio.Task[None]] = set()
        while True:
            call = await self._request_call()
            refusal = cygrpc._handle_rpc(_UNKNOWN, _NONE, (), call, loop, False)  # noqa: SLF001
            task = loop.create_task(cygrpc._schedule_rpc_coro(refusal, call, loop, _UNKNOWN))  # noqa: SLF001
            refusing.add(task)
            task.add_done_callback(refusing.discard)
