"""The servers that are broken along with the shop: the broker, the database server, the cache that is shared."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import sqlalchemy as sa

from campaigns.faults import Kind
from shop_services.launch.nats import nats_binary, nats_command
from shop_services.runtime.errors import Unavailable
from shop_services.storage import Database
from tests.servers import Postgres, ServerProcess, Valkey, free_port
from tests.servers.process import exchange


class Breakable(ServerProcess):
    """A server that is broken for a while, and comes back. What suffers, or is starting, is left alone."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._suffering = asyncio.Lock()

    async def suffer(self, kind: Kind, seconds: float) -> bool:
        """Be broken, unless it is already; how often it was is for the caller to count."""
        if self._suffering.locked() or not self.running:
            return False
        async with self._suffering:
            await self.endure(kind, seconds)
        return True

    async def endure(self, kind: Kind, seconds: float) -> None:
        """Be killed, and started again with its store after so many seconds; or stand still for as long."""
        if kind is Kind.FREEZE:
            await asyncio.to_thread(self.pause)
            await asyncio.sleep(seconds)
            self.resume()
        else:
            await asyncio.to_thread(self.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.start)


class Broker(Breakable):
    """The NATS server that `shop up` starts."""

    name = "nats-server"
    weights: Mapping[Kind, float] = {Kind.KILL: 2.0}

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def command(self) -> Sequence[str]:
        return nats_command(nats_binary(), self.directory / "streams", port=self._port)

    def ready(self) -> bool:
        return exchange(self._port, b"").startswith(b"INFO ")


class DatabaseServer(Breakable, Postgres):
    """A PostgreSQL that keeps over a crash of its own, if not of the machine, what it has committed.

    It crashes by SIGQUIT: all its processes end at once, and the next start recovers from the log. A `kill -9` of the
    first of them would leave the others behind for a while, and those would keep it from starting again.
    """

    name = "postgres"
    weights: Mapping[Kind, float] = {Kind.KILL: 0.3}
    stop_signal = signal.SIGQUIT

    def command(self) -> Sequence[str]:
        return [*super().command(), "-c", "synchronous_commit=on", "-c", "full_page_writes=on"]

    async def endure(self, kind: Kind, seconds: float) -> None:
        """Crash, and be started again at once."""
        await asyncio.to_thread(self.stop)
        await asyncio.to_thread(self.start)

    def dump(self, url: str, file: Path) -> None:
        """Write all that a database holds into `file`, as SQL; an empty file if that cannot be done any more."""
        command = [str(self._binaries / "pg_dump"), f"--file={file}", url.replace("+asyncpg", "")]
        subprocess.run(command, check=False, capture_output=True, timeout=120)  # noqa: S603 - of our own making


class SharedCache(Breakable, Valkey):
    """A Valkey that keeps nothing over its death."""

    name = "valkey"
    weights: Mapping[Kind, float] = {Kind.KILL: 2.0, Kind.FREEZE: 1.0}


class Connections:
    """The connections of all processes to a database server; `database` is that of the campaign."""

    name = "connections"
    weights: Mapping[Kind, float] = {Kind.CUT: 2.0}

    def __init__(self, database: Database, rng: Random) -> None:
        self._database = database
        self._rng = rng

    async def suffer(self, kind: Kind, seconds: float) -> bool:
        """Some of them are broken off, idle or at work."""
        try:
            async with self._database.reading() as connection:
                await connection.execute(_CUT, {"share": self._rng.choice([0.1, 0.3, 1.0])})
        except Unavailable:  # the server is away: nothing is left to cut
            return False
        return True


_CUT = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name LIKE 'shop-%' AND pid <> pg_backend_pid() AND random() < :share"
)
