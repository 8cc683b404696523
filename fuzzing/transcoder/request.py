"""A request as the HTTP server hands it to the application, and as JSON in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Request:
    """What is in an ASGI scope, and the chunks in which the body comes.

    A body in one chunk has its length announced; one in several comes chunked. With `leaves` the client goes away
    after the last chunk, before the body is whole.
    """

    method: str
    path: bytes
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    chunks: tuple[bytes, ...] = ()
    leaves: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        fields = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.path) + len(self.query) + fields + sum(map(len, self.chunks))

    def scope(self) -> dict[str, Any]:
        """What uvicorn makes of it."""
        framing: list[tuple[bytes, bytes]] = []
        if len(self.chunks) > 1 or self.leaves:
            framing = [(b"transfer-encoding", b"chunked")]
        elif self.chunks:
            framing = [(b"content-length", str(len(self.chunks[0])).encode())]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": self.method,
            "root_path": "",
            "path": self.path.decode("latin-1"),
            "raw_path": self.path,
            "query_string": self.query,
            "headers": [(b"host", b"fuzz"), *framing, *self.headers],
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 8080),
        }

    def events(self) -> list[dict[str, Any]]:
        """What `receive` gives, one after the other."""
        last = len(self.chunks) - 1
        events: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": self.leaves or at < last}
            for at, chunk in enumerate(self.chunks or (b"",))
        ]
        return [*events, {"type": "http.disconnect"}] if self.leaves else events

    def json(self) -> dict[str, Any]:
        """Bytes are texts with one character for each."""
        return {
            "method": self.method,
            "path": self.path.decode("latin-1"),
            "query": self.query.decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
            "chunks": [chunk.decode("latin-1") for chunk in self.chunks],
            "leaves": self.leaves,
        }

    @classmethod
    def of(cls, json: dict[str, Any]) -> Self:
        """The request that `json()` described."""
        return cls(
            json["method"],
            json["path"].encode("latin-1"),
            json["query"].encode("latin-1"),
            tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in json["headers"]),
            tuple(chunk.encode("latin-1") for chunk in json["chunks"]),
            json["leaves"],
        )
