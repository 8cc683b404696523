"""The journey's telling, and what makes it fail."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import grpc
import pytest

from grpc_registry import connect
from shop_services.demo import journey, shopping, trouble
from shop_services.demo.front import Front
from shop_services.demo.stage import Stage
from shop_services.demo.story import Failed, Story, check
from shop_services.runtime.settings import Settings


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
async def stage(lines: list[str], tmp_path: Path) -> AsyncIterator[Stage]:
    async with connect("memory://") as registry:
        front, settings = Front("http://127.0.0.1:1"), Settings(data=tmp_path)
        yield Stage(Story(lines.append), front, registry, settings, kill=lambda _: 0, token="t")


@asynccontextmanager
async def server(status: str, body: bytes) -> AsyncIterator[tuple[Front, list[bytes]]]:
    """A gateway that always answers the same, and the requests that it got."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
        requests.append(head + await reader.readexactly(length))
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield Front(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"), requests


async def test_sends_json_and_reads_json() -> None:
    """A request has the path and the body as JSON, and the reply the status and the JSON of the answer."""
    async with server("201 Created", b'{"a": 1}') as (front, requests):
        reply = await front.request("POST", "/v1/things?x=1", {"name": "Ö"})
    assert (reply.status, reply.body) == (201, {"a": 1})
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/things?x=1 HTTP/1.1")
    assert json.loads(body) == {"name": "Ö"}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]"])
async def test_an_answer_that_is_no_json_object_is_an_error(body: bytes) -> None:
    """What is not a JSON object raises ValueError."""
    async with server("200 OK", body) as (front, _):
        with pytest.raises(ValueError, match=r"JSON|Expecting"):
            await front.request("GET", "/")


async def test_no_gateway_is_an_os_error() -> None:
    """A gateway that cannot be reached raises OSError."""
    with pytest.raises(OSError, match="refused"):
        await Front("http://127.0.0.1:1").request("GET", "/")


async def test_tells_of_each_request(stage: Stage, lines: list[str]) -> None:
    """A request is told in one line: what was sent, how long it took, the status and the outcome."""
    async with server("200 OK", b'{"n": 3}') as (stage.front, _):
        assert await stage.http("GET", "/v1/x", outcome=lambda body: f"{body['n']} things") == {"n": 3}
    (line,) = lines
    assert line.strip().startswith("GET /v1/x ")
    assert line.endswith(" ms  200 3 things")


async def test_another_status_fails_with_what_the_answer_says(stage: Stage) -> None:
    """A status that was not expected fails the journey, with the server's message."""
    async with server("503 x", b'{"code": 14, "message": "no instance of user"}') as (stage.front, _):
        with pytest.raises(Failed, match="GET /v1/x: expected 200, got 503: no instance of user"):
            await stage.http("GET", "/v1/x", outcome=str)


def grpc_error() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (lambda: Failed("the total is wrong"), "the total is wrong"),
        (lambda: OSError("refused"), "refused"),
        (TimeoutError, "TimeoutError()"),
        (lambda: KeyError("order"), "the answer has no 'order'"),
        (grpc_error, "UNAVAILABLE: gone"),
    ],
)
async def test_ends_at_the_first_failure(
    stage: Stage,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], Exception],
    told: str,
) -> None:
    """Whatever fails in a chapter ends the journey there, with a line that says what."""
    played = []

    async def works(_: Stage) -> None:
        played.append("works")

    async def fails(_: Stage) -> None:
        raise error()

    monkeypatch.setattr(journey, "CHAPTERS", {"first": works, "second": fails, "third": works})
    assert not await journey.play(stage)
    assert played == ["works"]
    assert lines == ["\n 1. first", "\n 2. second", f"\nThe journey failed: {told}"]


async def test_says_when_all_of_it_worked(stage: Stage, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A journey without a failure says so."""

    async def works(_: Stage) -> None:
        check(True, "never said")

    monkeypatch.setattr(journey, "CHAPTERS", {"first": works})
    assert await journey.play(stage)
    assert re.fullmatch(r"\nAll of it worked: 1 chapters in \d+\.\d s\.", lines[-1])


def test_money_is_exact() -> None:
    """Amounts are read from JSON without a float, with what JSON leaves out."""
    assert shopping.amount({"currencyCode": "EUR", "units": "12", "nanos": 500000000}) == Decimal("12.5")
    assert shopping.price({"currencyCode": "EUR", "nanos": 50000000}) == "0.05 EUR"
    assert shopping.price({"currencyCode": "EUR"}) == "0.00 EUR"


async def test_a_failed_call_ends_the_wait_for_more() -> None:
    """Who waits for more calls is woken by the first failure, which is kept."""
    tally = trouble.Tally()
    waiting = asyncio.create_task(tally.more(100))
    await asyncio.sleep(0)
    tally.count(0.2)
    assert not waiting.done()
    tally.count(0.1, "UNAVAILABLE: gone")
    tally.count(0.1, "UNAVAILABLE: later")
    await waiting
    await tally.more(100)
    assert (tally.calls, tally.slowest, tally.failure) == (3, 0.2, "UNAVAILABLE: gone")
