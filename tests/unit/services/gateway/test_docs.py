"""The page's files: what was taken from Swagger UI, and how they are served."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from starlette.requests import Request

import shop_services.gateway.docs
from shop_services.gateway.docs import docs_pages

VENDORED = Path(shop_services.gateway.docs.__file__).parent / "swagger_ui"


def request(**headers: str) -> Request:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": sent})


def test_the_vendored_files_are_those_of_the_release() -> None:
    """Nobody has changed Swagger UI: each file has the hash that it had in the release."""
    first, *lines = (VENDORED / "ORIGIN").read_text().splitlines()
    assert first.startswith("swagger-ui-dist 5.")
    hashes = dict(line.split()[::-1] for line in lines)
    assert hashes == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDORED.iterdir() if path.name != "ORIGIN"
    }
    assert {"LICENSE", "NOTICE"} < hashes.keys()


def test_the_page_names_nothing_outside() -> None:
    """What is written by hand has no address of another host, and each file that it names is served."""
    pages = docs_pages()
    for name in ("index.html", "start.js"):
        text = VENDORED.with_name(name).read_text()
        assert "//" not in text.replace("// ", "")
    html = VENDORED.with_name("index.html").read_text()
    named = {part.split('"')[0] for part in html.replace('src="', 'href="').split('href="')[1:]}
    assert named - {"/openapi.json"} == pages.keys() - {"/docs"}


@pytest.mark.parametrize("path", sorted(docs_pages()))
async def test_every_file_holds_the_browser_to_the_gateway(path: str) -> None:
    """The policy allows for no inline script, no other host and no frame, and types are not guessed."""
    response = await docs_pages()[path](request())
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert not {"unsafe-inline", "unsafe-eval", "http:", "https:", "*"} & set(policy.replace(";", "").split())
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_file_that_a_browser_has_is_not_sent_again() -> None:
    """The two megabytes of script travel once: a request with their ETag is a 304 without a body."""
    page = docs_pages()["/docs/swagger-ui-bundle.js"]
    first = await page(request())
    again = await page(request(if_none_match=first.headers["etag"]))
    assert (again.status_code, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (await page(request(if_none_match='"another"'))).status_code == 200
