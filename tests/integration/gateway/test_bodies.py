"""`google.api.HttpBody` over real HTTP: bodies that are no JSON."""

from __future__ import annotations

import httpx
import pytest

from shop_services.gateway.transcoder import Limits
from tests.integration.gateway.serving import ZooServer, zoo_gateway

BYTES = bytes(range(256))


async def test_a_response_can_have_a_type_of_its_own(client: httpx.AsyncClient) -> None:
    """Bytes and their type come as the service gave them, with its metadata."""
    response = await client.get("/v1/pictures/x", params={"contentType": "image/png"})
    assert response.status_code == 200
    assert (response.headers["content-type"], response.content) == ("image/png", b"\x89\x00\xff")
    assert response.headers["grpc-trailer-last"] == "word"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_response_without_a_type_is_bytes(client: httpx.AsyncClient) -> None:
    """What the service does not name is not guessed."""
    assert (await client.get("/v1/pictures/x")).headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("kind", ["png", "image/png\r\nx: y", "imäge/png", "/", " a/b"])
async def test_a_type_that_is_none_is_the_services_fault(client: httpx.AsyncClient, kind: str) -> None:
    """No service can put a header of its own, or a broken one, into an answer."""
    response = await client.get("/v1/pictures/x", params={"contentType": kind})
    assert (response.status_code, response.json()["code"]) == (500, 13)


async def test_a_request_can_have_any_type(client: httpx.AsyncClient, zoo_server: ZooServer) -> None:
    """The body and its type are the HttpBody; path and query set the other fields."""
    response = await client.put(
        "/v1/files/a?note=n", content=BYTES, headers={"Content-Type": "image/png; charset=latin-1"}
    )
    assert response.status_code == 200, response.text
    request = zoo_server.requests[-1]
    assert (request.name, request.note) == ("a", "n")
    assert (request.file.content_type, request.file.data) == ("image/png; charset=latin-1", BYTES)
    assert response.json()["file"]["contentType"] == request.file.content_type  # as a part of JSON it is JSON
    mirrored = await client.put("/v1/files/a:mirror", content=b"{", headers={"Content-Type": "text/plain"})
    assert (mirrored.headers["content-type"], mirrored.content) == ("text/plain", b"{")
    stored = await client.post("/v1/store", content=BYTES)
    assert stored.content == BYTES
    assert (await client.post("/v1/store")).content == b""


async def test_a_raw_body_has_the_limits_of_all(zoo_server: ZooServer) -> None:
    """It is a 413 when it is too large, and a 415 when it is compressed, which a service would not know of."""
    async with zoo_gateway(zoo_server.address, Limits(body=100)) as client:
        assert (await client.post("/v1/store", content=b"x" * 101)).status_code == 413
        response = await client.post("/v1/store", content=b"x", headers={"Content-Encoding": "gzip"})
        assert response.status_code == 415
        assert "accept-post" not in response.headers


async def test_a_stream_of_bytes_is_one_body(client: httpx.AsyncClient) -> None:
    """The pieces follow each other without anything between them; the first has the type; Accept is not looked at."""
    response = await client.get("/v1/download", params={"to": 3, "size": 2}, headers={"Accept": "image/*"})
    assert (response.headers["content-type"], response.content) == ("text/x-numbers", b"001122")
    empty = await client.get("/v1/download")
    assert (empty.status_code, empty.headers["content-type"], empty.content) == (200, "application/octet-stream", b"")


async def test_a_stream_of_bytes_that_fails_is_cut(client: httpx.AsyncClient) -> None:
    """Bytes have no place for an error: before the first it is an ordinary answer, later the body has no end."""
    response = await client.get("/v1/download", params={"code": 5})
    assert (response.status_code, response.json()["message"]) == (404, "as asked")
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/v1/download", params={"to": 2, "size": 2, "code": 5})
