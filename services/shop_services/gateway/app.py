"""The gateway as one ASGI application: its own pages beside the transcoder."""

from __future__ import annotations

from typing import Any

from google.rpc import code_pb2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from shop_services.gateway.access import Access
from shop_services.gateway.errors import Refusal
from shop_services.gateway.probes import Probes
from shop_services.gateway.protojson import dumps


def make_app(transcoder: ASGIApp, probes: Probes, openapi: dict[str, Any]) -> Starlette:
    """`/healthz`, `/readyz` and `/openapi.json` (the document `openapi`), and the transcoder for every other path."""
    document = dumps(openapi)

    async def openapi_json(request: Request) -> Response:
        return Response(document, media_type="application/json")

    app = Starlette(
        routes=[
            Route("/healthz", probes.healthz),
            Route("/readyz", probes.readyz),
            Route("/openapi.json", openapi_json),
        ],
        middleware=[Middleware(Access)],
        exception_handlers={405: _wrong_method},
    )
    app.router.redirect_slashes = False
    app.router.default = transcoder
    return app


async def _wrong_method(request: Request, error: Exception) -> Response:
    """A wrong method for one of our pages, which Starlette finds out, in the shape of all other errors."""
    refusal = Refusal.of(code_pb2.UNIMPLEMENTED, f"{request.url.path} does not take {request.method}")
    return Response(refusal.body(), 405, getattr(error, "headers", None), media_type="application/json")
