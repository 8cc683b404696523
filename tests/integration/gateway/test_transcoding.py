"""HTTP to a real uvicorn, through the transcoder, to a real gRPC server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from shop_services.gateway.transcoder import Limits
from tests.integration.gateway.serving import DEADLINE, ZooServer, zoo_gateway


async def test_a_body_goes_there_and_back(client: httpx.AsyncClient) -> None:
    """A POST with a body is the message, and its answer the JSON of the response."""
    sent = {"stringValue": "é", "int64Value": "9007199254740993", "childByNumber": {"1": {"name": "x"}}, "kind": 1}
    response = await client.post("/v1/echo", json=sent)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert answer["stringValue"] == "é"
    assert answer["int64Value"] == "9007199254740993"
    assert answer["childByNumber"]["1"] == {"name": "x", "number": "0"}
    assert answer["kind"] == "KIND_CAT"
    assert answer["stringList"] == []


async def test_every_binding_leads_to_the_rpc(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """Path, query and body end up in the message, by each of an RPC's bindings."""
    assert (await client.get("/v1/echo?int32List=1&int32_list=2")).json()["int32List"] == [1, 2]
    answer = (await client.get("/v1/echo/7/KIND_DOG/true")).json()
    assert (answer["int64Value"], answer["kind"], answer["boolValue"]) == ("7", "KIND_DOG", True)
    answer = (await client.put("/v1/echo/shelves/a%2Fb/books/1/2", json={"number": 3})).json()
    assert answer == {"name": "shelves/a%2Fb/books/1/2", "number": "3"}
    assert (await client.post("/v1/echo/a%2Fb:list", content=b"[1,2]")).json() == [1, 2]
    assert zoo_server.requests[-1].string_value == "a/b"
    assert (await client.request("PURGE", "/v1/any/2026-01-31T09:30:00Z")).json()["timestamp"] == "2026-01-31T09:30:00Z"


async def test_a_patch_names_what_it_changes(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """The mask that the service gets is derived from the body."""
    await client.patch("/v1/animals/n1", json={"name": "n1", "legs": 4, "price": {"units": "5"}, "etag": "e"})
    assert list(zoo_server.requests[-1].update_mask.paths) == ["legs", "price"]
    assert zoo_server.requests[-1].animal.name == "n1"


async def test_chosen_headers_travel_both_ways(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """Authorization, Grpc-Metadata-* and the request id reach the service; its metadata reach the client."""
    headers = {"Authorization": "Bearer t", "Grpc-Metadata-Tenant": "a", "X-Request-Id": "r-1", "Cookie": "c=1"}
    response = await client.get("/v1/echo", headers=headers)
    assert response.headers["x-request-id"] == "r-1"
    assert response.headers["grpc-metadata-seen"] == "yes"
    assert response.headers["grpc-metadata-raw-bin"] == "AQI="
    assert response.headers["grpc-trailer-last"] == "word"
    metadata = dict(zoo_server.metadata)
    assert metadata["authorization"] == "Bearer t"
    assert metadata["tenant"] == "a"
    assert metadata["x-request-id"] == "r-1"
    assert "cookie" not in metadata


async def test_a_request_without_an_id_gets_one(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """The id that is made up is the one that the service sees and the client is told; so for an id that is not one."""
    response = await client.get("/v1/echo")
    assert response.headers["x-request-id"] == dict(zoo_server.metadata)["x-request-id"]
    response = await client.get("/v1/echo", headers={"X-Request-Id": "x" * 500})
    assert len(response.headers["x-request-id"]) < 100


async def test_the_deadline_is_the_default_or_the_clients(zoo_server: ZooServer) -> None:
    """Without Grpc-Timeout a call gets the gateway's own limit; with one, that, up to a bound."""
    async with zoo_gateway(zoo_server.address, Limits(timeout=200, most_timeout=300)) as client:
        for header, seconds in ((None, 200), ("100S", 100), ("1000S", 300)):
            await client.get("/v1/echo", headers={"Grpc-Timeout": header} if header else {})
            assert zoo_server.timeout == pytest.approx(seconds, abs=20)  # a busy machine takes of it


async def test_a_late_answer_is_a_504(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """When the deadline passes the client is told, and the call ends at the service."""
    response = await client.get("/v1/sleep", headers={"Grpc-Timeout": "4S"})  # it has begun by then
    assert response.status_code == 504
    assert response.json()["code"] == 4
    async with asyncio.timeout(DEADLINE):
        await zoo_server.cancelled.wait()


async def test_a_client_that_leaves_cancels_the_call(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """A closed connection ends the RPC long before its deadline."""
    request = asyncio.create_task(client.get("/v1/sleep", headers={"Grpc-Timeout": "60S"}))
    async with asyncio.timeout(DEADLINE):
        await zoo_server.sleeping.wait()
        request.cancel()
        await zoo_server.cancelled.wait()


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    """HEAD is served where GET is."""
    response = await client.head("/v1/echo")
    assert (response.status_code, response.content) == (200, b"")


async def chunks(*parts: bytes) -> Any:
    for part in parts:
        yield part


async def test_a_body_has_a_limit(zoo_server: ZooServer) -> None:
    """A body one byte too large is a 413, whether or not its size was announced; one of the limit is taken."""
    async with zoo_gateway(zoo_server.address, Limits(body=100)) as client:
        good = json.dumps({"stringValue": "x" * 81}).encode()
        assert len(good) == 100
        assert (await client.post("/v1/echo", content=good)).status_code == 200
        assert (await client.post("/v1/echo", content=chunks(good[:50], good[50:]))).status_code == 200
        for content in (good + b" ", chunks(good, b" ")):
            response = await client.post("/v1/echo", content=content)
            assert response.status_code == 413
            assert response.json() == {"code": 8, "message": "the body is larger than 100 bytes", "details": []}


async def test_a_body_that_does_not_come_is_a_408(zoo_server: ZooServer) -> None:
    """A client that announces a body and does not send it is not waited for longer than for a call."""
    async with zoo_gateway(zoo_server.address, Limits(timeout=0.2)) as client, asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b'POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"stringValue":')
        answer = await reader.read()  # to the end: the connection is closed
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b'{"code":4,"message":"the body did not arrive within 0.2 s","details":[]}')


async def test_a_service_that_is_away_is_a_503(zoo_server: ZooServer) -> None:
    """A call that cannot be made is UNAVAILABLE."""
    async with zoo_gateway("127.0.0.1:1") as client:
        response = await client.get("/v1/echo")
    assert response.status_code == 503
    assert response.json()["code"] == 14
