"""The gateway's own pages, as its wiring puts them together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from shop_services.gateway.pressure import Relieved
from shop_services.gateway.wiring import wire
from shop_services.runtime.serve import connect
from shop_services.runtime.settings import Settings


@asynccontextmanager
async def gateway(data: Path, *, metrics_port: int = 0) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that has no services to call."""
    settings = Settings(registry_url=f"memory://{data.name}", data=data, metrics_port=metrics_port)
    async with connect(settings, "gateway") as registry, wire(settings, registry) as front:
        transport = httpx.ASGITransport(front.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client


async def test_metrics_tell_of_requests_and_services(tmp_path: Path) -> None:
    """`/metrics` counts what was answered, by RPC and status, and how many instances there are to call."""
    async with gateway(tmp_path) as client:
        assert (await client.get("/v1/products")).status_code == 503
        assert (await client.get("/nothing")).status_code == 404
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    listed = "/shop.product.v1.ProductService/ListProducts"
    assert f'shop_gateway_requests_total{{rpc="{listed}",status="503"}} 1.0' in lines
    assert 'shop_gateway_requests_total{rpc="",status="404"} 1.0' in lines
    assert f'shop_gateway_request_duration_seconds_count{{rpc="{listed}"}} 1.0' in lines
    assert 'shop_gateway_service_instances{service="product"} 0.0' in lines
    assert "shop_gateway_requests_in_flight 1.0" in lines  # the one that asks
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


async def test_a_service_without_instances_is_not_available(tmp_path: Path) -> None:
    """The client is told when to try again and the id of the request; the log why, once for many."""
    async with gateway(tmp_path) as client:
        with capture_logs() as lines:
            answers = [await client.get("/v1/products", headers={"x-request-id": "r-1"}) for _ in range(3)]
    for answer in answers:
        assert answer.json()["message"] == "product is not available"
        assert [detail["requestId"] for detail in answer.json()["details"]] == ["r-1"]
        assert answer.headers["retry-after"] == "1"
    line, *more = [line for line in lines if line["event"] == "no_endpoint"]
    assert len(more) < 2  # of three; on a slow machine five seconds may pass meanwhile
    assert line["rpc"] == "/shop.product.v1.ProductService/ListProducts"
    assert line["cause"].startswith("no endpoint of 'product': no instance is registered")


@pytest.mark.parametrize("path", ["/", "/docs/"])
async def test_the_front_page_is_the_documentation(tmp_path: Path, path: str) -> None:
    """Whoever opens the address of the gateway is shown what there is."""
    async with gateway(tmp_path) as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/.well-known/jwks.json", "/v1/products"])
async def test_no_type_is_guessed(tmp_path: Path, path: str) -> None:
    """Of whatever is JSON."""
    async with gateway(tmp_path) as client:
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"


async def test_metrics_with_a_port_of_their_own_are_not_at_the_front_door(tmp_path: Path) -> None:
    """With SHOP_METRICS_PORT they are there alone, out of the reach of those whom the gateway serves."""
    async with gateway(tmp_path, metrics_port=9) as client:
        assert (await client.get("/metrics")).status_code == 404


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/openapi.json", "/metrics", "/.well-known/jwks.json"])
async def test_pages_can_only_be_read(tmp_path: Path, path: str) -> None:
    """They answer GET and HEAD, and refuse all else as the routes of services do."""
    async with gateway(tmp_path) as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.head(path)).status_code == 200
        refused = await client.post(path)
        assert (refused.status_code, refused.json()["code"]) == (405, 12)
        assert refused.headers["allow"] == "GET, HEAD"
        assert (await client.get(f"{path}/x")).status_code == 404


async def test_the_page_asks_for_files_that_there_are(tmp_path: Path) -> None:
    """`/docs` comes with a policy that allows for the gateway alone, and each file that it names is answered."""
    async with gateway(tmp_path) as client:
        page = await client.get("/docs")
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        for part in page.text.replace('src="', 'href="').split('href="')[1:]:
            answer = await client.get(part.split('"')[0])
            assert answer.status_code == 200
            assert answer.headers["content-type"].split(";")[0] in {
                "text/css",
                "text/javascript",
                "image/png",
                "application/json",
            }


async def test_what_hashes_passwords_or_tries_tokens_is_limited_more(tmp_path: Path) -> None:
    """Each by itself, and by address: one that signs up without end leaves the others their logins."""
    settings = Settings(registry_url=f"memory://{tmp_path.name}", data=tmp_path)
    async with connect(settings, "gateway") as registry, wire(settings, registry) as front:
        assert isinstance(front.app, Relieved)
        rates = front.app.pressure.rates
        assert rates._guarded is not None
        rates._guarded._now = lambda: 0.0  # each second gives one more
        scope = {"client": ("192.0.2.1", 1), "headers": ()}
        for path in ("/v1/users", "/v1/users:login", "/v1/users:refresh"):
            waits = [rates.wait({**scope, "method": "POST", "path": path}) for _ in range(21)]
            assert [wait > 0 for wait in waits] == [False] * 20 + [True]
        assert rates.wait({**scope, "method": "GET", "path": "/v1/users"}) == 0
