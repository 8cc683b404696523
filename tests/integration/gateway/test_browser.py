"""Streams in a real browser, which has its own mind about server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright

from tests.integration.gateway.serving import DEADLINE, ZooServer, zoo_gateway
from tests.servers.chromium import chromium

WATCH = """path => new Promise(resolve => {
    const heard = [];
    const source = new EventSource(path);
    source.onmessage = event => heard.push(JSON.parse(event.data).int32Value);
    for (const last of ["end", "error"]) {
        source.addEventListener(last, event => {
            source.close();
            resolve([...heard, last, event.data ? JSON.parse(event.data).code ?? null : "no answer"]);
        });
    }
})"""
"""What EventSource hears until the stream ends."""

LEAVE = """path => {
    const source = new EventSource(path);
    source.onmessage = () => source.close();
}"""

READ = """async path => {
    const response = await fetch(path);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let piece; !(piece = await reader.read()).done;) text += piece.value;
    return text.trim().split("\\n").map(line => JSON.parse(line).result.int32Value);
}"""


@pytest.fixture
async def page(zoo_server: ZooServer) -> AsyncIterator[Page]:
    """A page of the gateway before the zoo."""
    async with zoo_gateway(zoo_server.address) as client, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=await asyncio.to_thread(chromium))
        page = await browser.new_page()
        await page.goto(f"{client.base_url}/healthz")
        yield page
        await browser.close()


async def test_event_source_hears_a_stream(page: Page, zoo_server: ZooServer) -> None:
    """Messages come in their order, then what ended them; an error before them is a connection that fails."""
    async with asyncio.timeout(DEADLINE):
        assert await page.evaluate(WATCH, "/v1/count?to=3") == [1, 2, 3, "end", None]
        assert await page.evaluate(WATCH, "/v1/count?to=1&code=9") == [1, "error", 9]
        assert await page.evaluate(WATCH, "/v1/count?code=5") == ["error", "no answer"]


async def test_event_source_that_is_closed_ends_the_call(page: Page, zoo_server: ZooServer) -> None:
    """A page that closes its stream holds no call."""
    async with asyncio.timeout(DEADLINE):
        await page.evaluate(LEAVE, "/v1/count?to=1&sleeps_last=true")
        await zoo_server.cancelled.wait()


async def test_fetch_reads_lines(page: Page) -> None:
    """`fetch` gets lines of JSON, which is what it accepts when nobody says otherwise."""
    async with asyncio.timeout(DEADLINE):
        assert await page.evaluate(READ, "/v1/count?to=3") == [1, 2, 3]
