"""The gateway's own pages, and what surrounds every request."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from starlette.types import ASGIApp, Receive, Scope, Send

from shop_services.runtime import logs
from tests.integration.gateway.serving import DEADLINE, ZooServer, http, zoo_app, zoo_gateway


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the process logs, as it is written."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("gateway", "i1", "info", stream)
    yield stream
    root.handlers[:], root.level = handlers, level


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_request_is_a_line_in_the_log(zoo_server: ZooServer, lines: io.StringIO) -> None:
    """The line has method, path, RPC, status and request id, and no query, header or body."""
    async with zoo_gateway(zoo_server.address) as client:
        headers = {"X-Request-Id": "r-1", "Authorization": "Bearer s3cret"}
        await client.post("/v1/echo", json={"stringValue": "private"}, headers=headers)
        await client.get("/v1/echo/7/1/true?stringValue=private")
    first, second = (line for line in logged(lines) if line["event"] == "http")
    assert first["method"] == "POST /v1/echo"
    assert first["rpc"] == "/tests.zoo.v1.Zoo/Echo"
    assert (first["status"], first["request_id"], first["level"]) == (200, "r-1", "info")
    assert first["duration_ms"] > 0
    assert first["peer"].startswith("127.0.0.1:")
    assert second["method"] == "GET /v1/echo/7/1/true"
    assert "s3cret" not in str([first, second])
    assert "private" not in str([first, second])


async def test_a_client_that_leaves_is_logged_as_499(zoo_server: ZooServer, lines: io.StringIO) -> None:
    """Nobody is answered, and the log says why."""
    async with zoo_gateway(zoo_server.address) as client:
        request = asyncio.create_task(client.get("/v1/sleep"))
        async with asyncio.timeout(DEADLINE):
            await zoo_server.sleeping.wait()
            request.cancel()
            await zoo_server.cancelled.wait()
    assert [line["status"] for line in logged(lines) if line["event"] == "http"] == [499]


async def test_a_defect_is_answered_without_its_cause(zoo_server: ZooServer, lines: io.StringIO) -> None:
    """An exception that nobody expected is a 500 with the request id; the log has the traceback."""

    def broken(app: ASGIApp) -> ASGIApp:
        async def fail(scope: Scope, receive: Receive, send: Send) -> None:
            raise RuntimeError("the secret cause")

        return fail

    async with zoo_gateway(zoo_server.address, wrap=broken) as client:
        response = await client.get("/v1/echo", headers={"X-Request-Id": "r-2"})
    assert response.status_code == 500
    answer = response.json()
    assert (answer["code"], answer["message"]) == (13, "internal error; request id r-2")
    assert "secret cause" not in response.text
    assert any("the secret cause" in json.dumps(line) for line in logged(lines))
    assert [line["level"] for line in logged(lines) if line["event"] == "http"] == ["error"]


async def test_the_process_is_alive_and_ready_when_its_services_are(
    client: httpx.AsyncClient, zoo_server: ZooServer
) -> None:
    """`/readyz` is 200 once every channel is ready, and names those that are not."""
    assert (await client.get("/healthz")).json() == {"alive": True}
    before = await client.get("/readyz")
    assert before.status_code == 503
    assert before.json() == {"ready": False, "missing": ["zoo"], "draining": False}
    await client.get("/v1/echo")  # connects
    after = await client.get("/readyz")
    assert after.status_code == 200
    assert after.json() == {"ready": True, "missing": [], "draining": False}


async def test_the_document_is_served(client: httpx.AsyncClient) -> None:
    """`/openapi.json` is a valid OpenAPI document of the routes."""
    response = await client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    validate(response.json())
    assert "/v1/animals/{animal.name}" in response.json()["paths"]


async def test_answers_are_not_held_back(zoo_server: ZooServer) -> None:
    """Connections have TCP_NODELAY: without, each answer would wait some 40 ms for the client's acknowledgement."""
    async with zoo_app(zoo_server.address) as app, http(app) as (server, client):
        await client.get("/healthz")
        (connection,) = server._uvicorn.server_state.connections
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def accepts(client: httpx.AsyncClient) -> bool:
    try:
        await client.get("/healthz", headers={"Connection": "close"})
    except httpx.TransportError:  # refused, or reset while it waited to be accepted
        return False
    return True


async def test_stopping_lets_requests_finish(zoo_server: ZooServer) -> None:
    """A request that runs when the server stops gets its answer; a new connection finds nobody."""
    async with zoo_app(zoo_server.address) as app, http(app) as (server, client):
        running = asyncio.create_task(client.get("/v1/sleep"))
        async with asyncio.timeout(DEADLINE):
            await zoo_server.sleeping.wait()
            stopping = asyncio.create_task(server.stop(DEADLINE))
            async with httpx.AsyncClient(base_url=client.base_url) as other:
                while await accepts(other):
                    pass
            assert not running.done()
            zoo_server.wake.set()
            assert (await running).status_code == 200
            await stopping


async def test_stopping_at_once_cancels_requests(zoo_server: ZooServer) -> None:
    """Without a grace, also in the middle of one, calls are cancelled and the server ends."""
    async with zoo_app(zoo_server.address) as app, http(app) as (server, client):
        running = asyncio.create_task(client.get("/v1/sleep"))
        async with asyncio.timeout(DEADLINE):
            await zoo_server.sleeping.wait()
            gentle = asyncio.create_task(server.stop(600))
            await asyncio.sleep(0)
            await server.stop(None)
            await gentle
            await zoo_server.cancelled.wait()
        with pytest.raises(httpx.HTTPError):
            (await running).raise_for_status()
