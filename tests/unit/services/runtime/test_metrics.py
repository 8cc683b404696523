"""The metrics of a process over HTTP."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

import grpc_registry
from grpc_registry import Registry
from shop_services.runtime import metrics
from shop_services.runtime.app import App
from shop_services.runtime.metrics import MOST_BYTES, MOST_CONNECTIONS, serving_metrics
from shop_services.runtime.serve import serve
from shop_services.runtime.settings import SettingError, Settings
from tests.servers import free_port
from tests.unit.services.runtime.test_server import APP


class Apples(Collector):
    """One gauge."""

    def __init__(self, number: float = 7) -> None:
        self.number = number

    def collect(self) -> Iterator[Metric]:
        if self.number < 0:
            raise ValueError(self.number)
        yield GaugeMetricFamily("apples", "How many there are.", self.number)


def settings(**fields: object) -> Settings:
    given = {"registry_url": f"memory://{secrets.token_hex(4)}", "propagation": 0.0, "metrics_port": free_port()}
    return Settings(**(given | fields))  # type: ignore[arg-type]


GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


async def ask(port: int, request: bytes = GET) -> tuple[str, dict[str, str], str]:
    """The status line, headers and body of the answer; empty if there is none."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            answer = (await reader.read()).decode()
        except ConnectionError:
            answer = ""
        finally:
            writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


def values(text: str) -> dict[str, float]:
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


async def test_what_collectors_collect_can_be_read() -> None:
    """Each request gets the values of its moment, and those of the process, in the text that Prometheus reads."""
    here, apples = settings(), Apples()
    async with serving_metrics(here, [apples]):
        status, headers, body = await ask(here.metrics_port)
        assert status == "HTTP/1.1 200 OK"
        assert headers["Content-Type"].startswith("text/plain; version=")
        assert int(headers["Content-Length"]) == len(body)
        assert values(body)["apples"] == 7
        assert values(body)["process_resident_memory_bytes"] > 0
        apples.number = 8
        assert values((await ask(here.metrics_port))[2])["apples"] == 8


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", "404 Not Found"),
        (b"GET /metrics/x HTTP/1.1", "404 Not Found"),
        (b"GET /metrics?name=apples HTTP/1.1", "200 OK"),
        (b"POST /metrics HTTP/1.1", "405 Method Not Allowed"),
        (b"\xff", "404 Not Found"),
    ],
)
async def test_there_is_one_page_to_read(request_line: bytes, status: str) -> None:
    """Any other path, and any other method, is refused."""
    here = settings()
    async with serving_metrics(here):
        assert (await ask(here.metrics_port, request_line + b"\r\n\r\n"))[0] == f"HTTP/1.1 {status}"


async def test_a_collector_that_fails_fails_no_more_than_the_request() -> None:
    """The answer says so, and the next one is as good as ever."""
    here, apples = settings(), Apples(-1)
    async with serving_metrics(here, [apples]):
        assert (await ask(here.metrics_port))[0] == "HTTP/1.1 500 Internal Server Error"
        apples.number = 1
        assert (await ask(here.metrics_port))[0] == "HTTP/1.1 200 OK"


async def test_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head without end, one that never comes, and one connection too many are dropped; others are answered then."""
    here = settings()
    async with serving_metrics(here), asyncio.timeout(30):
        monkeypatch.setattr(metrics, "SECONDS", 60.0)  # nobody is dropped for the time that he takes
        assert (await ask(here.metrics_port, b"GET /metrics HTTP/1.1\r\nA: " + b"b" * 2 * MOST_BYTES))[0] == ""
        silent = [await asyncio.open_connection("127.0.0.1", here.metrics_port) for _ in range(MOST_CONNECTIONS)]
        assert (await ask(here.metrics_port))[0] == ""
        for _, writer in silent:
            writer.close()
        while not (answer := await ask(here.metrics_port))[0]:  # noqa: ASYNC110 - the server tells nobody that they left
            await asyncio.sleep(0)
        assert answer[0] == "HTTP/1.1 200 OK"
        monkeypatch.setattr(metrics, "SECONDS", 0.2)
        silent = [await asyncio.open_connection("127.0.0.1", here.metrics_port) for _ in range(MOST_CONNECTIONS)]
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
        monkeypatch.setattr(metrics, "SECONDS", 60.0)
        assert (await ask(here.metrics_port))[0] == "HTTP/1.1 200 OK"


async def test_a_port_that_is_taken_is_named() -> None:
    """The error names the variable, which is what to change."""
    here = settings()
    async with serving_metrics(here):
        with pytest.raises(SettingError, match=r"SHOP_METRICS_PORT: cannot bind port [0-9]+: Address already in use"):
            async with serving_metrics(here):
                pass


async def test_by_default_there_is_no_such_port() -> None:
    """Nothing is opened unless it was asked for."""
    before = len(asyncio.all_tasks())
    async with serving_metrics(settings(metrics_port=0), [Apples()]):
        assert len(asyncio.all_tasks()) == before


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The app of test_server, with a collector."""
    yield replace(APP, collectors=[Apples(3)])


async def test_a_service_serves_the_metrics_of_its_app(log: StringIO) -> None:
    """As long as the service serves, and no longer."""
    here = settings()
    async with grpc_registry.connect(here.registry_url) as registry:
        process = asyncio.create_task(serve("user", wire, here))
        watch = registry.watch("user")
        async with asyncio.timeout(30):
            while not getattr(await anext(watch), "instances", ()):
                pass
            assert values((await ask(here.metrics_port))[2])["apples"] == 3
            signal.raise_signal(signal.SIGTERM)
            await process
        await watch.aclose()
    with pytest.raises(ConnectionRefusedError):
        await ask(here.metrics_port)
