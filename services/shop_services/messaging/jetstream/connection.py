"""One connection to NATS, which is made again for ever.

The client's own reconnecting is not used: it gives up for good on an error of the server, and a frozen server may hold
its closing up. Each connection is a `Link` that lives until it is lost, which is probed from here; the next one is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from random import Random
from typing import Any
from urllib.parse import unquote

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import AuthorizationError, StaleConnectionError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from shop_services.messaging.jetstream.client import OrderedClient
from shop_services.runtime.tls import ClientTls

_log = structlog.get_logger(__name__)

PROBE = 2.0
"""Seconds between probes of a connection, and how long an answer may take: a frozen server is left after twice that."""

CONNECT_TIMEOUT = 2.0
CLOSE_TIMEOUT = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between attempts to connect: doubled each time, with jitter."""


class Link:
    """One live connection. After `lost` is set nothing comes of it any more; ask the `Connection` for the next."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=CONNECT_TIMEOUT)
        self.lost = asyncio.Event()
        self._waits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def wait(self, seconds: float | None) -> AsyncIterator[None]:
        """End the block after `seconds`, and when the connection is lost, by a `TimeoutError`. None: only then."""
        with _cancellable():
            async with asyncio.timeout(0 if self.lost.is_set() else seconds) as limit:
                self._waits.add(limit)
                try:
                    yield
                finally:
                    self._waits.discard(limit)

    def lose(self) -> None:
        """Declare the connection lost. Idempotent."""
        self.lost.set()
        for limit in tuple(self._waits):
            with suppress(RuntimeError):  # it has expired, or its block is just being left
                limit.reschedule(0)
        self._waits.clear()


class Connection:
    """Keeps a `Link` to one of the servers that `url` names. To be made in a running event loop.

    With `tls` nothing is sent, nor believed, before the handshake: the servers need `handshake_first`. The client's own
    way, for `tls://` alone, is to encrypt if the server says so in plain text, where anybody may have left that out.
    """

    def __init__(self, url: str, *, name: str, rng: Random, tls: ClientTls | None = None) -> None:
        self._servers, self._credentials = servers(url)
        self._tls = tls
        self._name = name
        self._rng = rng
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._outage = False
        self._refused = False
        """Whether a server said itself why it does not take us."""
        self._trouble = "no server answers"
        self._keeper = asyncio.create_task(self._keep(), name="nats connection")

    @property
    def current(self) -> Link | None:
        """The connection, or None while there is none."""
        return self._link

    @property
    def closed(self) -> bool:
        return self._keeper.done()

    async def link(self, patience: float | None = None) -> Link:
        """The connection, waiting until there is one.

        Raises:
            TimeoutError: there was none for `patience` seconds, and why; never if that is None.
        """
        if self._link is not None:
            return self._link
        try:
            async with asyncio.timeout(patience):
                while (link := self._link) is None:
                    await self._up.wait()
        except TimeoutError:
            raise TimeoutError(f"NATS is away: {self._trouble}") from None
        return link

    async def send(self, subject: str, data: bytes = b"", *, patience: float = 5.0) -> bool:
        """Send without waiting for an answer; whether there was a connection within `patience` seconds."""
        with suppress(Exception):
            link = await self.link(patience)
            await link.client.publish(subject, data)
            return True
        return False

    async def request(self, subject: str, data: bytes, *, headers: Mapping[str, str], timeout: float) -> Msg:
        """Ask, and return the answer.

        Raises:
            TimeoutError: no connection or no answer within `timeout` seconds, or the connection was lost meanwhile.
            nats.errors.Error: the client or the server refused.
        """
        async with asyncio.timeout(timeout):
            link = await self.link()
            async with link.wait(timeout):
                return await link.client.request(subject, data, timeout=timeout + 1, headers=dict(headers))

    async def close(self) -> None:
        """Send what was written and close, within 2 s also when the server is gone. Idempotent."""
        if (link := self._link) is not None and not self._keeper.done():
            with suppress(Exception):
                async with link.wait(CLOSE_TIMEOUT / 2):
                    await link.client.flush()
        self._keeper.cancel()
        await asyncio.wait([self._keeper])

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            client = OrderedClient()
            try:
                with _cancellable():
                    link = await self._connect(client)
                pause = FIRST_PAUSE
                await self._probe(link)
            except Exception as error:  # whatever a connection may die of, the next one is made
                self._complain(error)
            finally:
                if self._link is not None:
                    self._link.lose()
                self._link = None
                self._up.clear()
                await _close(client)
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _connect(self, client: Client) -> Link:
        closed = asyncio.Event()

        async def on_closed() -> None:
            closed.set()
            if self._link is not None and self._link.client is client:
                self._link.lose()

        async def on_error(error: Exception) -> None:
            if asyncio.current_task() is self._keeper and _cancellations():
                raise asyncio.CancelledError  # the client would go on to the next server, for ever
            if self._link is None or isinstance(error, OSError | StaleConnectionError):
                self._complain(error)
            else:
                _log.warning("the NATS client reports an error", reason=f"{type(error).__name__}: {error}")

        secured: dict[str, Any] = {}
        if self._tls is not None:
            secured = {"tls": self._tls.context(), "tls_handshake_first": True, "tls_hostname": self._tls.server_name}
        await client.connect(
            servers=self._servers,
            name=self._name,
            allow_reconnect=False,
            max_reconnect_attempts=-1,  # of the loop that looks for a first server that answers
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # any number does
            connect_timeout=CONNECT_TIMEOUT,  # type: ignore[arg-type]
            ping_interval=3600,  # probed from here
            closed_cb=on_closed,
            error_cb=on_error,
            **self._credentials,  # type: ignore[arg-type]
            **secured,
        )
        self._link = link = Link(client)

        def on_ended(reading: asyncio.Task[None]) -> None:
            if not reading.cancelled():
                reading.exception()  # of no interest: nothing is heard any more
            link.lose()

        # A connection that breaks amid writing ends the client's reading by an error, and an answer that it cannot take
        # ends it without one. It tells nobody, and its flush then asks no server.
        if (reading := client._reading_task) is not None:  # noqa: SLF001 - nothing public says so
            reading.add_done_callback(on_ended)
        self._up.set()
        if closed.is_set():
            link.lose()
        self._refused = False
        if self._outage:
            self._outage = False
            _log.info("connected to NATS again")
        return link

    async def _probe(self, link: Link) -> None:
        while not link.lost.is_set():
            with suppress(TimeoutError):
                async with link.wait(PROBE):
                    await link.lost.wait()
            if not link.lost.is_set():
                async with link.wait(PROBE):
                    await link.client.flush(timeout=3600)
        raise ConnectionError("the connection was lost")

    def _complain(self, error: Exception) -> None:
        if self._refused and isinstance(error, ConnectionResetError):
            return  # who refuses us hangs up, and what it says is lost if we are still writing: it has said it before
        refused = type(error) in (NatsError, AuthorizationError)  # the other kinds are the client's own
        news = not self._outage or (refused and not self._refused)
        self._refused = refused
        self._outage = True
        self._trouble = f"{type(error).__name__}: {error}"
        if news:
            _log.warning("NATS is away", reason=self._trouble)


@contextmanager
def _cancellable() -> Iterator[None]:
    """A block that a cancellation ends also where the client, or `asyncio.wait_for` in it, made something else of that.

    Whoever tries again for ever, or goes on with the result, would else never end.
    """
    before = _cancellations()
    try:
        yield
    except Exception:
        if _cancellations() > before:
            raise asyncio.CancelledError from None
        raise
    if _cancellations() > before:
        raise asyncio.CancelledError


def _cancellations() -> int:
    """How often the current task was asked to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def _close(client: Client) -> None:
    """Close within a second: where the server is frozen, bytes in the way may keep the client waiting."""
    closing: asyncio.Task[Any] = asyncio.create_task(client.close())
    for _ in range(2):  # the client may take the first cancelling for its own
        _, late = await asyncio.wait([closing], timeout=CLOSE_TIMEOUT / 2)
        if not late:
            break
        closing.cancel()
    if closing.done() and not closing.cancelled():
        closing.exception()  # of no interest: it is closed


def servers(url: str) -> tuple[list[str], dict[str, str]]:
    """The hosts that `nats://user:password@a:4222,b:4222` names, and the credentials as the client takes them."""
    scheme, rest = url.split("://", 1)
    credentials, _, hosts = rest.rpartition("@")
    user, has_password, password = credentials.partition(":")
    given = {"user": unquote(user), "password": unquote(password)} if has_password else {"token": unquote(user)}
    return [f"{scheme}://{host}" for host in hosts.split(",")], given if credentials else {}
