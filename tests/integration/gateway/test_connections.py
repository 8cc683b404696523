"""Whatever a client draws out, makes too large, or does too often, ends; who behaves is served meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from shop_services.gateway.connection import ConnectionBounds
from shop_services.gateway.pressure import Pressure
from shop_services.gateway.rates import Proxies, Rates
from shop_services.gateway.server import HttpServer
from shop_services.runtime.overload import Bounds, ConcurrencyLimit
from tests.integration.gateway.serving import DEADLINE

EARNEST = ConnectionBounds()


@dataclass
class Application:
    """Answers `/hold` when `go` is set, `/large` with what no system keeps, `/stream` without end, `/lines` with three
    pieces, others at once."""

    sent: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    ended: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.began.release()
        try:
            body = b"ok"
            if scope["path"] == "/hold":
                await self.go.wait()
            elif scope["path"] == "/large":
                body = bytes(64 * 1024 * 1024)
            elif scope["path"] == "/read":
                while (message := await receive())["type"] == "http.request" and message["more_body"]:
                    pass
            elif scope["path"] == "/stream":
                await self._stream(receive, send)
                return
            elif scope["path"] == "/lines":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                for piece in (b"one\n", b"two\r\n", b"three\n"):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return
            headers = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        finally:
            self.ended.release()

    async def _stream(self, receive: Receive, send: Send) -> None:
        await receive()  # the body, of which there is none
        left = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.done():
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            self.sent += 10_000
            await asyncio.sleep(0)


@dataclass
class Client:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, text: str) -> tuple[int, dict[str, str], bytes]:
        """Send it, and return the answer."""
        self.writer.write(text.encode("latin-1"))
        return await self.answer()

    async def get(self, path: str, more: str = "") -> tuple[int, dict[str, str], bytes]:
        """The answer to a GET."""
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n")

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        async with asyncio.timeout(DEADLINE):
            line, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = dict(one.split(": ", 1) for one in lines)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(line.split()[1]), headers, body

    async def closed(self) -> bytes:
        """What came before the connection was closed."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


class Served:
    """A server, the application on it, and clients."""

    def __init__(self, port: int, server: HttpServer, application: Application, pressure: Pressure) -> None:
        self.application = application
        self.pressure = pressure
        self.server = server
        self.state = server._uvicorn.server_state
        self._port = port
        self._clients: list[Client] = []

    async def client(self, **options: Any) -> Client:
        """A new connection."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self._port, **options))
        self._clients.append(client)
        return client

    def leave(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.writer.transport.abort()


@asynccontextmanager
async def serving(
    bounds: ConnectionBounds = EARNEST,
    *,
    limit: Bounds | None = None,
    rate: float = 0,
    burst: int = 1,
    proxies: str = "",
) -> AsyncIterator[Served]:
    """Serve an `Application`. For its rates no time passes."""
    application = Application()
    pressure = Pressure(ConcurrencyLimit(limit), Rates(rate, burst, Proxies(proxies), now=lambda: 0.0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HttpServer(pressure.around(application), listener, bounds)
        await server.start()
        served = Served(listener.getsockname()[1], server, application, pressure)
        try:
            yield served
        finally:
            served.leave()
            await server.stop(None)


def is_status(answer: tuple[int, dict[str, str], bytes], http: int, code: int) -> bool:
    """Whether it is an error in the shape of all errors."""
    status, headers, body = answer
    error = json.loads(body)
    return (status, headers["content-type"], error["code"]) == (http, "application/json", code) and error["message"]


@pytest.mark.parametrize("sent", ["GET /", "GET / HTTP/1.1\r\nHost: x\r\nX-A: "])
async def test_a_head_that_does_not_end_is_cut_off(sent: str) -> None:
    """A head has a deadline, also on a connection that has been used; drop by drop does not extend it."""
    async with serving(ConnectionBounds(head=4.0)) as served:
        client = await served.client()
        assert (await client.get("/"))[0] == 200
        client.writer.write(sent.encode())

        async def drip() -> None:
            while True:
                await asyncio.sleep(0.2)
                client.writer.write(b"a")

        dripping = asyncio.create_task(drip())
        assert is_status(await client.answer(), 408, 4)
        assert await client.closed() == b""
        dripping.cancel()
        await asyncio.wait((dripping,))


async def test_connections_on_which_nothing_comes_are_closed() -> None:
    """Those that are new, and those that were used and are idle; one that is being answered stays."""
    # Each asks before its time is over, although this machine may stand still.
    async with serving(ConnectionBounds(head=4.0, idle=4.0)) as served:
        fresh, used, busy = [await served.client() for _ in range(3)]
        assert (await used.get("/"))[0] == 200
        answer = asyncio.create_task(busy.get("/hold"))
        async with asyncio.timeout(DEADLINE):
            for _ in range(2):
                await served.application.began.acquire()
        assert await fresh.closed() == b""
        assert await used.closed() == b""
        assert not answer.done()
        served.application.go.set()
        assert (await answer)[0] == 200


async def test_a_body_that_goes_on_after_the_answer_is_cut_off() -> None:
    """What nobody reads is waited for no longer than a head."""
    async with serving(ConnectionBounds(head=4.0)) as served:
        client = await served.client()
        answer = await client.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")
        assert answer[0] == 200
        assert await client.closed() == b""


@pytest.mark.parametrize(
    "sent",
    [
        f"GET /{'a' * 40_000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-A: {'a' * 40_000}\r\n\r\n",
        f"GET / HTTP/1.1\r\nX-A: {'a' * 40_000}",
        "GET / HTTP/1.1\r\n" + "".join(f"X-{number}: a\r\n" for number in range(200)) + "\r\n",
    ],
    ids=["line", "header", "unfinished", "number"],
)
async def test_a_head_that_is_too_large_is_refused(sent: str) -> None:
    """431, and the connection is closed; it never reaches the application."""
    async with serving() as served:
        client = await served.client()
        assert is_status(await client.ask(sent), 431, 8)
        await client.closed()
        assert served.application.began.locked()


async def test_a_large_body_after_a_small_head_is_fine() -> None:
    """Sizes of heads count heads alone, however they come."""
    async with serving() as served:
        client = await served.client()
        for _ in range(3):
            body = "a" * 200_000
            answer = await client.ask(f"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}")
            assert answer[0] == 200


@pytest.mark.parametrize(
    "sent", ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "\x16\x03\x01\x02"]
)
async def test_nonsense_is_refused(sent: str) -> None:
    """400 in the shape of all errors, and the connection is closed."""
    async with serving() as served:
        client = await served.client()
        assert is_status(await client.ask(sent), 400, 3)
        await client.closed()


@pytest.mark.parametrize("path", ["/large", "/stream"])
async def test_an_answer_that_is_not_read_is_given_up(path: str) -> None:
    """A client that takes nothing loses the connection, and of a stream no more is made than the system keeps."""
    async with serving(ConnectionBounds(stalled=1.0, closing=1.0)) as served:
        client = await served.client(limit=1)
        client.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            await served.application.ended.acquire()
            other = await served.client()
            while len(served.state.connections) > 1:
                assert (await other.get("/"))[0] == 200
        assert served.application.sent < 32 * 1024 * 1024
        assert served.pressure.answering == 0


async def test_who_does_not_read_keeps_no_server_from_stopping() -> None:
    """Deadlines hold while it drains, too, however long that may take."""
    async with serving(ConnectionBounds(stalled=1.0, closing=1.0)) as served:
        client = await served.client(limit=1)
        client.writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            await served.application.began.acquire()
            await served.server.stop(600)
        assert not served.state.connections


@pytest.mark.parametrize("more", ["", "Connection: keep-alive\r\n"])
async def test_who_knows_no_chunks_gets_none(more: str) -> None:
    """A client of HTTP/1.0 gets a body of unknown length as it is; the connection's end is its end."""
    async with serving() as served:
        client = await served.client()
        client.writer.write(f"GET /lines HTTP/1.0\r\n{more}\r\n".encode())
        head, _, body = (await client.closed()).partition(b"\r\n\r\n")
        assert body == b"one\ntwo\r\nthree\n"
        assert b"chunked" not in head
        assert b"connection: close" in head


async def test_requests_sent_ahead_are_bounded() -> None:
    """Sixteen may wait for the one before; who sends more is cut off."""
    async with serving() as served:
        client = await served.client()
        client.writer.write(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n" * 16)
        async with asyncio.timeout(DEADLINE):
            await served.application.began.acquire()
        served.application.go.set()
        assert [(await client.answer())[0] for _ in range(16)] == [200] * 16
        served.application.go.clear()
        client.writer.write(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert await client.closed() == b""


async def test_the_idle_make_room_for_the_new() -> None:
    """With as many connections as there may be, the one that is idle for longest is closed; none idle, 503."""
    async with serving(ConnectionBounds(most=3)) as served:
        clients = [await served.client() for _ in range(3)]
        for client in clients:
            assert (await client.get("/"))[0] == 200
        late = await served.client()
        assert (await late.get("/"))[0] == 200
        assert await clients[0].closed() == b""
        held = [asyncio.create_task(client.get("/hold")) for client in (*clients[1:], late)]
        async with asyncio.timeout(DEADLINE):
            for _ in range(7):
                await served.application.began.acquire()
        assert is_status(await (await served.client()).answer(), 503, 14)
        served.application.go.set()
        assert [(await one)[0] for one in held] == [200] * 3


async def test_each_of_the_new_takes_the_room_of_another() -> None:
    """Connections that come together do not all count on the same idle one to go."""
    async with serving(ConnectionBounds(most=20)) as served:
        old = [await served.client() for _ in range(20)]
        for client in old:
            assert (await client.get("/"))[0] == 200
        new = await asyncio.gather(*(served.client() for _ in range(15)))
        assert [(await client.get("/"))[0] for client in new] == [200] * 15
        assert [await client.closed() for client in old[:15]] == [b""] * 15
        assert [(await client.get("/"))[0] for client in old[15:]] == [200] * 5
        assert len(served.state.connections) == 20


async def test_who_was_refused_for_good_is_not_waited_for() -> None:
    """A refused request that was the last by its own word ends the connection, also of a client that keeps it open."""
    async with serving(ConnectionBounds(idle=DEADLINE), rate=0.01, burst=1) as served:
        other, client = await served.client(), await served.client()
        assert (await other.get("/"))[0] == 200
        more = "Connection: close\r\nContent-Length: 1\r\n\r\na"
        assert is_status(await client.ask(f"POST / HTTP/1.1\r\nHost: x\r\n{more}"), 429, 8)
        assert await client.closed() == b""  # it has heard the end, and does not end its own side
        async with asyncio.timeout(DEADLINE / 2):
            while len(served.state.connections) > 1:
                await other.get("/healthz")


async def test_one_address_has_a_number_of_connections_of_its_own() -> None:
    """429 beyond it, unless it is a proxy that we trust; what is closed counts no more."""
    async with serving(ConnectionBounds(by_address=2), rate=1000, burst=100) as served:
        clients = [await served.client() for _ in range(2)]
        assert [(await client.get("/"))[0] for client in clients] == [200, 200]
        assert is_status(await (await served.client()).answer(), 429, 8)
        clients[0].writer.close()
        async with asyncio.timeout(DEADLINE):
            while len(served.state.connections) > 1:
                await clients[1].get("/healthz")
        assert (await (await served.client()).get("/"))[0] == 200
    async with serving(ConnectionBounds(by_address=2), rate=1000, burst=100, proxies="127.0.0.0/8") as served:
        assert [(await (await served.client()).get("/"))[0] for _ in range(3)] == [200] * 3


async def test_bodies_have_a_bound_together() -> None:
    """However many send large bodies, no more is kept than the bound."""
    async with serving(ConnectionBounds(bodies=300_000)) as served:
        clients = [await served.client() for _ in range(8)]
        for client in clients:
            client.writer.write(b"POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(60_000))
        answers = [asyncio.create_task(client.answer()) for client in clients]
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        refused = [answer for answer in answers if answer.done()]
        assert all(is_status(answer.result(), 503, 14) for answer in refused)
        served.leave()
        await asyncio.wait(answers)
        for answer in answers:
            answer.exception()


async def test_what_is_too_much_is_refused_before_it_is_read() -> None:
    """503 with Retry-After while the limit is full, on a connection that stays; who watches is always answered."""
    async with serving(limit=Bounds(least=1, first=1, most=1)) as served:
        holding, asking = await served.client(), await served.client()
        held = asyncio.create_task(holding.get("/hold"))
        async with asyncio.timeout(DEADLINE):
            await served.application.began.acquire()
        for number in range(3):
            answer = await asking.get("/v1/products")
            assert is_status(answer, 503, 14)
            assert answer[1]["retry-after"] == "1"
            assert json.loads(answer[2])["details"][0]["reason"] == "OVERLOADED"
            assert served.pressure.limit.refused == number + 1
        post = "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde"
        assert is_status(await asking.ask(post), 503, 14)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await asking.get(path))[2] == b"ok"
        served.application.go.set()
        assert (await held)[0] == 200
        assert (await asking.get("/v1/products"))[2] == b"ok"
        last = await served.client()
        served.application.go.clear()
        held = asyncio.create_task(holding.get("/hold"))
        async with asyncio.timeout(DEADLINE):
            for _ in range(5):
                await served.application.began.acquire()
        answer = await last.get("/v1/products", "Connection: close\r\n")
        assert is_status(answer, 503, 14)
        assert answer[1]["connection"] == "close"
        assert await last.closed() == b""
        head = await served.client()
        head.writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await head.closed()).endswith(b"\r\n\r\n")
        served.application.go.set()
        await held
        assert served.pressure.limit.in_progress == 0


async def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    """429 with Retry-After, by address; X-Forwarded-For tells addresses apart behind a proxy that we trust."""
    async with serving(rate=0.5, burst=2) as served:
        client = await served.client()
        assert [(await client.get("/"))[0] for _ in range(2)] == [200, 200]
        answer = await client.get("/")
        assert is_status(answer, 429, 8)
        assert answer[1]["retry-after"] == "2"
        assert is_status(await client.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na"), 429, 8)
        assert (await client.get("/healthz"))[0] == 200
        assert served.pressure.rates.limited == 2
    async with serving(rate=0.5, burst=1, proxies="127.0.0.1") as served:
        client = await served.client()
        for number in range(5):
            assert (await client.get("/", f"X-Forwarded-For: 192.0.2.{number}\r\n"))[0] == 200
            assert is_status(await client.get("/", f"X-Forwarded-For: 192.0.2.{number}\r\n"), 429, 8)
