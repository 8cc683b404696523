"""Tokens at the front door."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from shop_services.gateway.identity import Identity
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.identity.caller import ANONYMOUS, Caller, Person, Role, Service
from shop_services.runtime.identity.keys import KeyName, MemoryKeys, PublicKey
from shop_services.runtime.testing import credentials_of

ANN = Person("ann", Role.CUSTOMER)


@dataclass
class Inside:
    """The application that is wrapped: it notes what reaches it."""

    scopes: list[Scope] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def headers_of(caller: Caller, authority: Authority) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), value.encode()) for key, value in credentials_of(caller, authority)()]


async def answer(authority: Authority, headers: list[tuple[bytes, bytes]]) -> tuple[int, Any]:
    """The status and the JSON that a request with these headers gets; a 401 says what is wrong (RFC 6750)."""
    inside, sent = Inside(), list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("a token is looked at before the body")

    scope: Scope = {"type": "http", "headers": headers, "path": "/", "method": "POST"}
    await Identity(inside, authority)(scope, receive, send)
    status = sent[0]["status"]
    assert (status == 204) is (inside.scopes == [scope])
    challenge = dict(sent[0]["headers"]).get(b"www-authenticate")
    assert challenge == (b'Bearer error="invalid_token"' if status == 401 else None)
    return status, json.loads(sent[1]["body"] or b"null")


@pytest.mark.parametrize("caller", [ANONYMOUS, ANN, Person("boss", Role.ADMIN)])
async def test_whoever_is_a_person_or_nobody_passes(caller: Caller) -> None:
    """With the headers as they came: the service that is called looks for itself."""
    authority = Authority.in_memory("gateway")
    others = [(b"accept", b"*/*"), (b"x-authorization", b"nonsense")]
    assert await answer(authority, others + headers_of(caller, authority)) == (204, None)


@pytest.mark.parametrize("text", [b"Bearer nonsense", b"Basic YTpi", b"", b"Bearer \xff"])
async def test_a_bad_token_is_401(text: bytes) -> None:
    """A google.rpc.Status that says so, and the id of the request."""
    status, body = await answer(Authority.in_memory("gateway"), [(b"authorization", text)])
    assert (status, body["code"], body["message"]) == (401, 16, "the token is not valid")
    assert [detail.get("reason") for detail in body["details"] if "reason" in detail] == ["TOKEN_INVALID"]
    assert any("requestId" in detail for detail in body["details"])


async def test_a_services_token_is_401() -> None:
    """Even one that is for the gateway."""
    authority = Authority.in_memory("gateway")
    headers = headers_of(Service("order"), authority)
    assert authority.identify([(key.decode(), value.decode()) for key, value in headers]) == Service("order")
    assert (await answer(authority, headers))[0] == 401


async def test_two_headers_are_401() -> None:
    """Whichever of them is good."""
    authority = Authority.in_memory("gateway")
    assert (await answer(authority, headers_of(ANN, authority) * 2))[0] == 401


async def test_keys_that_cannot_be_read_are_503() -> None:
    """The token may well be good."""

    class Away(MemoryKeys):
        def public(self, name: KeyName) -> PublicKey | None:
            raise Unavailable("the keys cannot be read")

    authority = Authority("gateway", Away(lambda: 1e9), clock=lambda: 1e9)
    status, body = await answer(authority, headers_of(ANN, Authority.in_memory("gateway", lambda: 1e9)))
    assert (status, body["message"]) == (503, "the keys cannot be read")
