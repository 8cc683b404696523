"""The transcoder as an ASGI application under arbitrary input; `tests/integration/gateway` has it on real HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shop_services.gateway.routes import Conflict
from shop_services.gateway.transcoder import Transcoder
from tests.unit.services.gateway import zoo


class Call:
    """A call that answers with what it was asked."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __await__(self) -> Any:
        yield
        return self._message

    async def initial_metadata(self) -> Any:
        return ()

    async def trailing_metadata(self) -> Any:
        return ()

    def cancel(self) -> bool:
        return False


class StreamCall(Call):
    """A call that answers twice with what it was asked."""

    def __init__(self, message: Any) -> None:
        super().__init__(message)
        self._left = [message, message, grpc.aio.EOF]

    async def read(self) -> Any:
        return self._left.pop(0)


class Channel:
    """A channel of which every call succeeds, with an empty response or with the request."""

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any) -> Any:
        def call(message: Any, timeout: float, metadata: Any) -> Call:
            sent = request_serializer(message)
            return Call(response_deserializer(sent if path.endswith("Echo") else b""))

        return call

    def unary_stream(self, path: str, request_serializer: Any, response_deserializer: Any) -> Any:
        def call(message: Any, timeout: float, metadata: Any) -> Call:
            request_serializer(message)
            return StreamCall(response_deserializer(b""))

        return call


transcoder = Transcoder([zoo.service()], lambda service: cast("grpc.aio.Channel", Channel()))
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"]
PATHS = [
    "/v1/echo",
    "/v1/echo/1/2/true",
    "/v1/echo/shelves/a/books/b",
    "/v1/echo/x:list",
    "/v1/animals/n",
    "/v1/any/x",
    "/v1/count",
    "/v1/count:texts",
    "/v1/download",
    "/v1/feed",
    "/v1/files/n",
    "/v1/files/n:mirror",
    "/v1/pictures/n",
    "/v1/store",
]
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-type", b"text/html"),
    (b"content-encoding", b"br"),
    (b"grpc-timeout", b"1S"),
    (b"grpc-timeout", b"x"),
    (b"authorization", b"\xff"),
    (b"grpc-metadata-a", b"b"),
    (b"accept", b"text/event-stream"),
    (b"accept", b"text/html"),
    (b"accept", b"?"),
]
texts = st.one_of(
    st.sampled_from(PATHS), st.text(alphabet="/v1echo:list%2F.*{}é\0", max_size=20).map(lambda text: f"/{text}")
)


def ask(
    method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> tuple[int, bytes, bytes]:
    async def run() -> list[Any]:
        sent: list[Any] = []
        events = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return events.pop(0) if events else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        length = (b"content-length", str(len(body)).encode())
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": [length, *headers],
        }
        await transcoder(scope, receive, send)
        return sent

    start, *pieces = asyncio.run(run())
    assert [piece.get("more_body", False) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    return start["status"], dict(start["headers"])[b"content-type"], b"".join(piece["body"] for piece in pieces)


@settings(deadline=None)
@given(
    st.sampled_from(METHODS),
    texts,
    st.binary(max_size=20),
    st.lists(st.sampled_from(HEADERS), max_size=3),
    st.one_of(
        st.binary(max_size=20),
        st.recursive(
            st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_request_is_answered(
    method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Whatever a client sends, it gets an answer, or a status of its own fault (or of what is not served)."""
    status, kind, content = ask(method, path, query, headers, body)
    assert status in (200, 400, 404, 405, 406, 415, 501)
    if status != 200:
        assert kind == b"application/json"
        assert json.loads(content).keys() == {"code", "message", "details"}
    elif kind == b"application/json":
        json.loads(content)
    elif kind == b"application/x-ndjson":
        results = [json.loads(line) for line in content.splitlines()]
        assert [result.keys() for result in results] == [{"result"}] * (1 if method == "HEAD" else 2)
    elif kind == b"text/event-stream":
        assert content.endswith(b"\n\nevent: end\ndata: {}\n\n")


def test_two_services_with_the_same_routes_are_refused() -> None:
    """A conflict is found when the transcoder is made, and names the routes and RPCs."""
    with pytest.raises(Conflict, match=r"POST /v1/echo \(/tests.zoo.v1.Zoo/Echo\) matches the same requests as"):
        Transcoder([zoo.service(), zoo.service()], lambda service: cast("grpc.aio.Channel", Channel()))


@pytest.mark.parametrize(("method", "status"), [("GET", 404), ("PURGE", 405)])
def test_a_client_is_not_told_all_that_it_sent(method: str, status: int) -> None:
    """A path of any length is named by its beginning. (Found by the fuzzer.)"""
    nowhere = "/v1/echo/" if method == "GET" else "/v1/files/"
    told, _, content = ask(method, nowhere + "x" * 100_000 + ("/y/z/a/b" if method == "GET" else ""), b"", [], b"")
    assert told == status
    assert len(content) < 1000
