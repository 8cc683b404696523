"""Units of work over one database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shop_services.runtime.errors import Unavailable
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import ClientTls, client_tls
from shop_services.storage.engine import STATEMENT_TIMEOUT, WAIT, make_engine, units
from shop_services.storage.failures import Contended, translated

ATTEMPTS = 5
_FIRST_PAUSE = 0.01

T = TypeVar("T")


class Database:
    """A pool of connections, and the ways to use one. An async context manager; leaving closes all connections.

    Every unit raises `Unavailable` if the database is away, and `Contended` if others were changing the same rows.
    Keep units short: nothing but statements of this database belongs inside. `statement_timeout`, in seconds, is the
    most that one may take in PostgreSQL.

    Raises:
        SettingError: the URL cannot be used; DATABASE_URL is named.
    """

    def __init__(
        self,
        url: str,
        *,
        service: str,
        pool: int = 8,
        statement_timeout: float = STATEMENT_TIMEOUT,
        rng: random.Random | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        self.engine: AsyncEngine = make_engine(
            url, service=service, pool=pool, statement_timeout=statement_timeout, tls=tls
        )
        self._url, self._service, self._tls = url, service, tls
        self._transaction, self._snapshot, self._reading = units(self.engine)
        self._rng = rng or random.Random()
        # SQLite has one writer. Ours queue here in their order; those of other processes meet in SQLite's own lock.
        self._writer = asyncio.Semaphore(1 if self.engine.dialect.name == "sqlite" else pool)

    @classmethod
    def of(cls, settings: Settings, service: str) -> Self:
        """The database that the settings give to `service`. Raises as the class."""
        url = settings.database(service)
        return cls(url, service=service, pool=settings.database_pool, tls=client_tls(settings, service))

    def __repr__(self) -> str:
        return f"Database({self.engine.url!r})"  # SQLAlchemy hides the password

    def patient(self, statement_timeout: float) -> Database:
        """Another to the same database, with one connection, whose statements may take longer."""
        return Database(self._url, service=self._service, pool=1, statement_timeout=statement_timeout, tls=self._tls)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """For one `SELECT`, or several that need not agree: the cheapest way to read."""
        async with self._connection(self._reading) as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """For several `SELECT`s that must see one state of the database."""
        async with self._connection(self._snapshot) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """For changes: all of them are made when the block ends, or none if it raises."""
        try:
            async with asyncio.timeout(WAIT):
                await self._writer.acquire()
        except TimeoutError:
            raise Unavailable("too many changes are waiting for the database") from None
        try:
            async with self._connection(self._transaction) as connection:
                yield connection
                await connection.commit()
        finally:
            self._writer.release()

    async def atomically(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again from its beginning if it met another, five times at most.

        Raises:
            Contended: it met another each time.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.transaction() as connection:
                    return await work(connection)
            except Contended:
                if attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(_FIRST_PAUSE * 2**attempt * self._rng.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def _connection(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        with translated():
            connection = await engine.connect()
            try:
                yield connection
            finally:
                await asyncio.shield(connection.close())  # rolls back what was not committed
