"""Tokens at the front door: one that is no good is refused there, whatever the request is for.

A good one goes along with the call as it came, and the service that is called checks it again: no service trusts the
gateway's word. What is refused here costs no service anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from shop_services.gateway.errors import INVALID_TOKEN, Refusal
from shop_services.gateway.protojson import dumps
from shop_services.runtime.context import current, new_request_id
from shop_services.runtime.errors import DomainError, Unauthenticated
from shop_services.runtime.identity.authority import AUTHORIZATION, Authority
from shop_services.runtime.identity.caller import Service
from shop_services.runtime.identity.keys import KNOWN_AFTER
from shop_services.runtime.identity.tokens import invalid
from shop_services.runtime.status import status_of

JWKS = "/.well-known/jwks.json"

_HEADER = AUTHORIZATION.encode()
# A key signs nothing until KNOWN_AFTER: whoever looks again before that misses none.
_FRESH = {"cache-control": f"public, max-age={KNOWN_AFTER * 2 / 3:.0f}"}


class Identity:
    """Wraps an ASGI application: a request with an `Authorization` that is no good is answered 401."""

    def __init__(self, app: ASGIApp, authority: Authority) -> None:
        self._app = app
        self._authority = authority

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        # Most have one header of the name or none, and are not to pay for more than the search.
        sent = [(AUTHORIZATION, value.decode("latin-1")) for name, value in scope["headers"] if name == _HEADER]
        if sent:
            try:
                # Service tokens are for calls between services: whoever has got hold of one gets nothing for it here.
                if isinstance(self._authority.identify(sent), Service):
                    raise invalid()
            except DomainError as error:
                serving = current()
                request_id = serving.request_id if serving else new_request_id()
                headers = INVALID_TOKEN if isinstance(error, Unauthenticated) else ()
                await Refusal(status_of(error, request_id), headers=headers).send(send)
                return
        await self._app(scope, receive, send)


def jwks_page(authority: Authority) -> Callable[[Request], Awaitable[Response]]:
    """The page of the keys that access tokens are signed with, for whoever wants to check one: RFC 7517."""

    async def page(request: Request) -> Response:
        return Response(dumps(authority.jwks()), media_type="application/jwk-set+json", headers=_FRESH)

    return page
