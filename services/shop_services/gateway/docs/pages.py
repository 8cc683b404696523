"""The page and its files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

# No script, style or font but the gateway's own, no request but to it, no frame around the page. Swagger UI has its
# icons as `data:` in its style sheet.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # to be kept, and asked for by its ETag each time
}
_FILES = {
    "/docs": ("index.html", "text/html; charset=utf-8"),
    "/docs/start.js": ("start.js", "text/javascript; charset=utf-8"),
    "/docs/swagger-ui-bundle.js": ("swagger_ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "/docs/swagger-ui.css": ("swagger_ui/swagger-ui.css", "text/css; charset=utf-8"),
    "/docs/favicon-32x32.png": ("swagger_ui/favicon-32x32.png", "image/png"),
}


def docs_pages() -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """`/docs` and what it loads, by path. The files are read once, now: two megabytes."""
    here = files(__package__)
    return {path: _page(here.joinpath(name).read_bytes(), media_type) for path, (name, media_type) in _FILES.items()}


def _page(body: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    headers = {**_HEADERS, "etag": f'"{sha256(body).hexdigest()[:32]}"'}

    async def page(request: Request) -> Response:
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=media_type)

    return page
