"""The front door as a browser uses it: HTTP/JSON to the gateway. The standard library will do for one shopper."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from dataclasses import dataclass
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
    """Sends requests to a gateway, each on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Reply:
        """Send `body` as JSON and return the answer, whatever its status.

        Raises:
            OSError: the gateway cannot be reached, or does not answer within 20 s.
            ValueError: the answer is not a JSON object.
        """
        return await asyncio.to_thread(self._request, method, path, body)

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Reply:
        began = time.perf_counter()
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"content-type": "application/json"} if payload else {})
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
