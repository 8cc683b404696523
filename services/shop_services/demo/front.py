"""The front door as a browser uses it: HTTP/JSON to the gateway. The standard library will do for one shopper."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, its JSON, and how long it took in seconds."""

    status: int
    body: dict[str, Any]
    seconds: float


class Front:
    """Sends requests to a gateway, each on a connection of its own. `ca` is what it trusts where the URL is https."""

    def __init__(self, url: str, ca: Path | None = None) -> None:
        parts = urlsplit(url)
        self._address = parts.netloc
        self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None, token: str = "") -> Reply:
        """Send `body` as JSON, with a token if there is one, and return the answer, whatever its status.

        Raises:
            OSError: the gateway cannot be reached, or does not answer within 20 s.
            ValueError: the answer is not a JSON object.
        """
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await asyncio.to_thread(self._request, method, path, body, headers)

    def _request(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Reply:
        began = time.perf_counter()
        connection = self._connection()
        try:
            payload = None if body is None else json.dumps(body)
            if payload is not None:
                headers = {**headers, "content-type": "application/json"}
            connection.request(method, path, payload, headers)
            response = connection.getresponse()
            text = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        answer = json.loads(text)
        if not isinstance(answer, dict):
            raise ValueError(f"{method} {path}: the answer is no JSON object: {text[:200]!r}")
        return Reply(response.status, answer, time.perf_counter() - began)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._address, timeout=_TIMEOUT)
        return http.client.HTTPSConnection(self._address, timeout=_TIMEOUT, context=self._tls)
