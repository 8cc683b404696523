"""Streams of responses over real HTTP: as lines of JSON and as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from shop_services.gateway.connection import ConnectionBounds
from shop_services.gateway.pressure import Pressure
from shop_services.gateway.rates import Proxies, Rates
from shop_services.gateway.transcoder import Limits
from shop_services.runtime.overload import ConcurrencyLimit
from tests.integration.gateway.serving import DEADLINE, ZooServer, http, zoo_app, zoo_gateway, zoo_transcoder

IDLE = 4
"""Seconds: a call that is made has begun by then, although this machine may stand still."""
EVENTS = {"Accept": "text/event-stream"}


def lines(response: httpx.Response) -> list[Any]:
    """The JSON of each line."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def events(text: str) -> list[tuple[str, Any]]:
    """Name and data of each event, as the HTML standard says that a browser dispatches them."""
    result = []
    for block in text.split("\n\n"):
        fields = [line.partition(":") for line in block.split("\n") if line and not line.startswith(":")]
        named = {name: value.removeprefix(" ") for name, _, value in fields}
        if "data" in named:
            result.append((named.get("event", "message"), json.loads(named["data"])))
    return result


@pytest.fixture
async def hurried(zoo_server: ZooServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that is quick to end a stream."""
    limits = Limits(idle=IDLE, heartbeat=0.1, stream=DEADLINE)
    async with zoo_gateway(zoo_server.address, limits) as client:
        yield client


async def test_a_stream_is_a_line_for_each_message(client: httpx.AsyncClient) -> None:
    """By default messages are lines of JSON in grpc-gateway's envelope, and nobody in between keeps them."""
    response = await client.get("/v1/count", params={"to": 3})
    assert [line["result"]["int32Value"] for line in lines(response)] == [1, 2, 3]
    assert response.headers["cache-control"] == "no-store"
    assert "grpc-metadata-seen" not in response.headers
    for to in (0, 1):
        greeted = await client.get("/v1/count", params={"to": to, "greets": True})
        assert greeted.headers["grpc-metadata-seen"] == "yes"
    assert lines(await client.get("/v1/count")) == []


async def test_a_stream_is_events_for_who_asks_for_them(client: httpx.AsyncClient) -> None:
    """An event has the JSON of a message as its data; one named `end` says that there is no more to come."""
    response = await client.get("/v1/count", params={"to": 2}, headers=EVENTS)
    assert response.headers["content-type"] == "text/event-stream"
    names, data = zip(*events(response.text), strict=True)
    assert names == ("message", "message", "end")
    assert [each["int32Value"] for each in data[:2]] == [1, 2]


async def test_a_field_of_the_responses_can_be_streamed(client: httpx.AsyncClient) -> None:
    """`response_body` names what of each response is the message; POST streams as GET does."""
    response = await client.post("/v1/count:texts", json={"to": 2, "size": 3})
    assert lines(response) == [{"result": "xxx"}, {"result": "xxx"}]


async def test_what_cannot_be_accepted_is_a_406(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """A client that takes neither form is told which there are, and no call is made."""
    response = await client.get("/v1/count", headers={"Accept": "application/json"})
    assert (response.status_code, response.json()["code"]) == (406, 3)
    assert "application/x-ndjson or text/event-stream" in response.json()["message"]
    assert not zoo_server.requests


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_an_error_before_the_first_message_is_an_answer(
    client: httpx.AsyncClient, accept: str, code: grpc.StatusCode
) -> None:
    """A stream that fails at once has the status of HTTP that the same error of a unary call has."""
    response = await client.get("/v1/count", params={"code": code.value[0]}, headers={"Accept": accept})
    unary = await client.post("/v1/fail", json={"code": code.value[0]})
    assert response.status_code == unary.status_code
    assert response.headers["content-type"] == "application/json"
    assert response.headers["grpc-trailer-last"] == "word"
    assert response.json() == {"code": code.value[0], "message": "as asked", "details": []}


async def test_a_later_error_is_the_last_line_or_event(client: httpx.AsyncClient) -> None:
    """What fails after the first message is told in the stream, which then ends."""
    query = {"to": 1, "code": 9}
    status = {"code": 9, "message": "as asked", "details": []}
    first, last = lines(await client.get("/v1/count", params=query))
    assert first["result"]["int32Value"] == 1
    assert last == {"error": status}
    (name, _), error = events((await client.get("/v1/count", params=query, headers=EVENTS)).text)
    assert name == "message"
    assert error == ("error", status)


async def test_a_wrong_request_is_refused_before_the_stream(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """Unknown parameters and malformed values are a 400, as everywhere."""
    response = await client.get("/v1/count?nope=1")
    assert (response.status_code, response.json()["message"]) == (400, "nope: unknown query parameter")
    assert not zoo_server.requests


async def test_messages_come_as_they_are_sent(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """A message is with the client while the stream goes on, and so are its initial metadata."""
    query = {"to": 1, "greets": True, "sleeps_first": True}
    async with asyncio.timeout(DEADLINE), client.stream("GET", "/v1/count", params=query) as response:
        assert response.headers["grpc-metadata-seen"] == "yes"  # here before any message
        assert not zoo_server.wake.is_set()
        zoo_server.wake.set()
        assert [json.loads(line)["result"]["int32Value"] async for line in response.aiter_lines()] == [1]


@pytest.mark.parametrize("headers", [{}, EVENTS])
@pytest.mark.parametrize("query", [{"to": 1, "sleeps_last": True}, {"greets": True, "sleeps_first": True}])
async def test_a_client_that_leaves_cancels_the_call(
    client: httpx.AsyncClient, zoo_server: ZooServer, headers: dict[str, str], query: dict[str, Any]
) -> None:
    """A closed connection ends the RPC of a stream, whether or not a message has come."""
    async with asyncio.timeout(DEADLINE):
        async with client.stream("GET", "/v1/count", params=query, headers=headers):
            await zoo_server.sleeping.wait()
        await zoo_server.cancelled.wait()


async def test_silence_is_filled_with_heartbeats(zoo_server: ZooServer) -> None:
    """Comments tell a client of events that the stream lives, from before the first event on."""
    limits = Limits(heartbeat=0.05)
    async with zoo_gateway(zoo_server.address, limits) as client, asyncio.timeout(DEADLINE):
        query = {"to": 1, "sleeps_first": True}
        async with client.stream("GET", "/v1/count", params=query, headers=EVENTS) as response:
            text = ""
            async for piece in response.aiter_text():
                text += piece
                if text.startswith(":\n\n" * 3):
                    zoo_server.wake.set()
        assert [name for name, _ in events(text)] == ["message", "end"]


async def test_lines_have_no_heartbeats(hurried: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """JSON has no comments: a stream of lines in which nothing happens is a 504 in the end, as nothing was sent."""
    response = await hurried.get("/v1/count", params={"sleeps_first": True})
    assert (response.status_code, response.json()["message"]) == (504, f"the stream had no message for {IDLE} s")
    await asyncio.wait_for(zoo_server.cancelled.wait(), DEADLINE)


@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_an_idle_stream_is_ended(
    hurried: httpx.AsyncClient, zoo_server: ZooServer, headers: dict[str, str]
) -> None:
    """A stream without messages for long ends with an error that says so, and its call ends too."""
    response = await hurried.get("/v1/count", params={"to": 1, "sleeps_last": True}, headers=headers)
    last = events(response.text)[-1][1] if headers else lines(response)[-1]["error"]
    assert last == {"code": 4, "message": f"the stream had no message for {IDLE} s", "details": []}
    await asyncio.wait_for(zoo_server.cancelled.wait(), DEADLINE)


async def test_an_oversized_stream_is_ended(zoo_server: ZooServer) -> None:
    """A stream may have so many bytes; what would exceed them is replaced by an error."""
    async with zoo_gateway(zoo_server.address, Limits(stream_bytes=3000)) as client:
        *messages, last = lines(await client.get("/v1/count", params={"to": 1000, "size": 500}))
    assert 0 < len(messages) < 6
    assert last["error"] == {"code": 8, "message": "the stream has more than 3000 bytes", "details": []}


async def test_a_stream_has_a_deadline(zoo_server: ZooServer) -> None:
    """It is the gateway's own limit, or the client's Grpc-Timeout where that is shorter."""
    async with zoo_gateway(zoo_server.address, Limits(stream=200)) as client:
        for header, seconds in ((None, 200), ("100S", 100), ("1000S", 200)):
            await client.get("/v1/count", headers={"Grpc-Timeout": header} if header else {})
            assert zoo_server.timeout == pytest.approx(seconds, abs=20)  # a busy machine takes of it
        headers = {"Grpc-Timeout": f"{IDLE}S"}
        late = await client.get("/v1/count", params={"sleeps_first": True}, headers=headers)
        assert (late.status_code, late.json()["code"]) == (504, 4)
        cut = await client.get("/v1/count", params={"to": 1, "sleeps_last": True}, headers=headers)
        assert lines(cut)[-1]["error"]["code"] == 4


async def test_a_slow_reader_slows_the_service(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """What a client does not read stays at the service, except what buffers of the network hold."""
    total, size = 2000, 50_000
    query = {"to": total, "size": size}
    async with asyncio.timeout(DEADLINE), client.stream("GET", "/v1/count", params=query) as response:
        before = -1
        while not zoo_server.sent or zoo_server.sent != before:  # until it stands still
            before = zoo_server.sent
            await asyncio.sleep(0.3)
        assert 0 < before < total / 2
        left = total
        async for line in response.aiter_lines():
            assert len(json.loads(line)["result"]["stringValue"]) == size
            left -= 1
        assert left == 0


async def test_a_client_that_does_not_read_is_left(zoo_server: ZooServer) -> None:
    """Who reads nothing for long loses the connection, and its call ends."""
    query = {"to": 2000, "size": 50_000}
    async with (
        zoo_app(zoo_server.address) as app,
        http(app, bounds=ConnectionBounds(stalled=0.5)) as (_, client),
        client.stream("GET", "/v1/count", params=query) as response,
        asyncio.timeout(DEADLINE),
    ):
        assert response.status_code == 200
        await zoo_server.ended.wait()


@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_a_server_that_stops_ends_its_streams(zoo_server: ZooServer, headers: dict[str, str]) -> None:
    """A stream does not hold up a drain: its client is told to call again, whether or not a message has come."""
    query = {"to": 1, "sleeps_last": True}
    async with (
        zoo_transcoder(zoo_server.address) as transcoder,
        http(transcoder, transcoder.end_streams) as (server, client),
        asyncio.timeout(DEADLINE),
        client.stream("GET", "/v1/count", params=query, headers=headers) as begun,  # its message is with the gateway
    ):
        await zoo_server.sleeping.wait()
        zoo_server.sleeping.clear()
        silent = asyncio.create_task(client.get("/v1/count", params={"sleeps_first": True}, headers=headers))
        await zoo_server.sleeping.wait()
        await server.stop(600)
        await begun.aread()
        status = {"code": 14, "message": "the gateway stops: call again", "details": []}
        told = events(begun.text)[-1][1] if headers else lines(begun)[-1]["error"]
        assert told == status
        assert ((await silent).status_code, (await silent).json()) == (503, status)


async def test_a_stream_that_waits_is_no_load(zoo_server: ZooServer) -> None:
    """A stream has no part in the limit of what is in progress, not even before its answer begins."""
    pressure = Pressure(ConcurrencyLimit(), Rates(0, 1, Proxies("")))
    async with (
        zoo_app(zoo_server.address) as app,
        http(pressure.around(app)) as (_, client),
        asyncio.timeout(DEADLINE),
    ):
        stream = asyncio.create_task(client.get("/v1/count", params={"sleeps_first": True}))
        await zoo_server.sleeping.wait()
        assert (pressure.limit.in_progress, pressure.answering) == (0, 1)
        zoo_server.wake.set()
        assert lines(await stream) == []
        assert (pressure.limit.in_progress, pressure.limit.admitted) == (0, 1)


async def test_head_ends_when_the_stream_would_begin(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """HEAD has the headers of the answer, and leaves no call behind."""
    response = await client.head("/v1/count", params={"to": 1, "sleeps_last": True})
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "application/x-ndjson"
    await asyncio.wait_for(zoo_server.cancelled.wait(), DEADLINE)


async def test_a_connection_serves_on_after_a_stream(client: httpx.AsyncClient) -> None:
    """A stream that has ended, well or not, leaves its connection to the next request."""
    for _ in range(3):
        assert len(lines(await client.get("/v1/count", params={"to": 2, "code": 5}))) == 3
        assert (await client.get("/v1/echo")).status_code == 200


async def test_a_stream_of_requests_is_refused_before_its_body(client: httpx.AsyncClient) -> None:
    """Client streaming is a 501 that does not wait for what the client would send."""

    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"POST /v1/feed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert b"takes a stream of requests" in answer
