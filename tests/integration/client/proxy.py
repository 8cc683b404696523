"""A proxy between a client and a server, which can be slow, or stop to forward: as silent as a machine that is gone."""

from __future__ import annotations

import asyncio
import contextlib

_READ_AHEAD = 64
"""Pieces that a direction holds back at most; then TCP holds back the rest."""


class Direction:
    """One way through a proxy, of all its connections. It may be slow, or shut while the other way is open."""

    def __init__(self) -> None:
        self.delay = 0.0
        """Seconds that everything is under way."""
        self._flows = asyncio.Event()
        self._flows.set()

    def freeze(self) -> None:
        """Pass on nothing any more, on no connection."""
        self._flows.clear()

    def thaw(self) -> None:
        """Pass on what was held back, and all that comes."""
        self._flows.set()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what `reader` gives until it ends."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_READ_AHEAD)

        async def read() -> None:
            data = b"any"
            while data:
                try:
                    data = await reader.read(65_536)
                except OSError:
                    data = b""
                await under_way.put((loop.time() + self.delay, data))

        reading = asyncio.create_task(read())
        try:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - loop.time())
                await self._flows.wait()
                if not data:
                    return
                writer.write(data)
        finally:
            reading.cancel()
            writer.close()


class Proxy:
    """Forwards TCP connections from `port`, on the loopback, to `target`: `there`, and `back`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.there = Direction()
        self.back = Direction()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def freeze(self) -> None:
        """Pass on nothing any more, on no connection; new ones are accepted, and heard no more than the others."""
        self.there.freeze()
        self.back.freeze()

    def thaw(self) -> None:
        """Pass on what was held back, and all that comes."""
        self.there.thaw()
        self.back.thaw()

    def cut(self) -> None:
        """Reset every connection. New ones are forwarded."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        """Close everything; a connection to the port is refused from now on."""
        if self._server is not None:
            self._server.close()
            await asyncio.sleep(0.01)  # for what was accepted just before
        self.thaw()
        while self._tasks:
            self.cut()
            await asyncio.wait(self._tasks, timeout=0.1)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is not None and not self._server.is_serving():  # it came with the last ones, too late
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = {writer}
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            answers, onward = await asyncio.open_connection("127.0.0.1", self.target)
            writers.add(onward)
            self._writers.add(onward)
            await asyncio.gather(self.there.pump(reader, onward), self.back.pump(answers, writer))
        for one in writers:
            one.close()
            with contextlib.suppress(OSError):
                await one.wait_closed()
        self._writers -= writers
