"""The responses of a call, waited for a while at a time.

A wait on grpc.aio's `read()` that is given up takes the call with it. Here the read goes on by itself, and is waited
for again.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Self

import grpc

EOF: Final = grpc.aio.EOF
PENDING: Final = object()
"""Stands for a response that is not here yet."""


class Responses:
    """Reads a call, one response at a time, and ends it when the block that it manages is left."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._reading: asyncio.Future[Any] | None = None
        self._heading: asyncio.Future[Any] = asyncio.ensure_future(call.initial_metadata())

    async def next(self, seconds: float) -> Any:
        """The next response, or `EOF`; `PENDING` if `seconds` have passed, or initial metadata came meanwhile.

        Raises:
            AioRpcError: the call failed.
            CancelledError: it was cancelled by us.
        """
        reading = self._reading or asyncio.ensure_future(self._call.read())
        self._reading = reading
        waited_for = (reading,) if self._heading.done() else (reading, self._heading)
        await asyncio.wait(waited_for, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            return PENDING
        self._reading = None
        return reading.result()

    def cancel(self) -> None:
        """End the call; who waits for a response of it is cancelled."""
        self._call.cancel()

    @property
    def early_metadata(self) -> grpc.aio.Metadata | None:
        """The initial metadata, if they are here and there are any: no response need have come yet."""
        heading = self._heading
        return heading.result() if heading.done() and not heading.cancelled() and not heading.exception() else None

    async def metadata(self) -> grpc.aio.Metadata:
        """The initial metadata, which are here when a response or the end is."""
        metadata: grpc.aio.Metadata = await self._call.initial_metadata()
        return metadata

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()
        left = [each for each in (self._reading, self._heading) if each is not None]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)
