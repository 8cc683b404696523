"""The gateway as one ASGI application: its own pages beside the transcoder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from google.rpc import code_pb2
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from shop_services.gateway.access import Access
from shop_services.gateway.counting import RequestCounts
from shop_services.gateway.docs import docs_pages
from shop_services.gateway.errors import Refusal
from shop_services.gateway.identity import JWKS, Identity, jwks_page
from shop_services.gateway.probes import Probes
from shop_services.gateway.protojson import dumps
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.metrics import registry_of

Page = Callable[[Request], Awaitable[Response]]
"""What answers GET and HEAD of one path."""

_NOSNIFF = {"x-content-type-options": "nosniff"}
_ALLOW = ((b"allow", b"GET, HEAD"),)


def make_app(
    transcoder: ASGIApp,
    probes: Probes,
    openapi: dict[str, Any],
    *,
    counts: RequestCounts | None = None,
    collectors: Iterable[Collector] | None = None,
    authority: Authority | None = None,
) -> ASGIApp:
    """`/healthz`, `/readyz`, `/openapi.json` (which is `openapi`), `/docs`, `/metrics`; the transcoder for all else.

    `/` leads to `/docs`.

    Requests are counted by `counts`. `/metrics` has what `collectors` collect; without them there is no such page.
    Tokens are checked by `authority`, whose keys are a page too; without one they are left to the services.
    """
    pages = {
        "/healthz": probes.healthz,
        "/readyz": probes.readyz,
        "/openapi.json": _openapi(openapi),
        **docs_pages(),
        "/": _to_docs,
        "/docs/": _to_docs,
    }
    if collectors is not None:
        pages["/metrics"] = _metrics(collectors)
    if authority is not None:
        pages[JWKS] = jwks_page(authority)
    app: ASGIApp = _Pages(pages, transcoder)
    if authority is not None:
        app = Identity(app, authority)
    return Access(app, counts or RequestCounts())


class _Pages:
    """Looks a path up in a table: almost all requests are for none of these pages, and should not pay for them.

    Of no page is the type guessed.
    """

    def __init__(self, pages: Mapping[str, Page], otherwise: ASGIApp) -> None:
        self._pages = pages
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = self._pages.get(scope["path"])
        if page is None:
            await self._otherwise(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            response = await page(Request(scope))
            response.headers.update(_NOSNIFF)
            await response(scope, receive, send)
        else:
            what = f"{scope['path']} does not take {scope['method']}, only GET, HEAD"
            await Refusal.of(code_pb2.UNIMPLEMENTED, what, http_status=405, headers=_ALLOW).send(send)


async def _to_docs(request: Request) -> Response:
    return RedirectResponse("/docs")


def _openapi(document: dict[str, Any]) -> Page:
    body = dumps(document)

    async def page(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return page


def _metrics(collectors: Iterable[Collector]) -> Page:
    registry = registry_of(collectors)

    async def page(request: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return page
