"""An RPC whose responses are a stream, and one whose requests are."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_balancer.sync.errors import CallError
from grpc_balancer.sync.prefetched import END, LATE, Prefetched
from grpc_balancer.sync.rpc import LATE_SECONDS, Rpc


class StreamingRpc(Rpc):
    """One with any number of responses, which are read by `next_response`."""

    def __init__(self, *arguments: Any) -> None:
        self._responses = Prefetched()
        self._room: asyncio.Future[None] | None = None
        super().__init__(*arguments)

    def next_response(self) -> Any:
        """Block until the next response; END after the last, then `error` says how it ended."""
        self.thread.check_usable()
        left = self.time_remaining()
        message, room = self._responses.take(None if left is None else left + LATE_SECONDS)
        if message is LATE:
            self.expire()
            return END
        if room:
            self.thread.post(self._go_on)
        return message

    def end(self, error: CallError | None, response: Any = None, *, cancelled: bool = False) -> bool:
        ended = super().end(error, response, cancelled=cancelled)
        if ended:
            self._responses.end(discard=cancelled)
        return ended

    def _go_on(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _receive(self) -> None:
        async for message in self._native:
            if not self._responses.put(message):
                self._room = self.thread.loop.create_future()
                await self._room
