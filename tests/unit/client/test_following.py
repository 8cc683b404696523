"""A stream of news that fails again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from grpc_balancer import following


@pytest.mark.parametrize("says_something", [True, False])
async def test_a_stream_that_always_fails_is_one_line_in_the_log(
    says_something: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is opened again each time, and logged once in five minutes, also if it says something before it fails."""
    monkeypatch.setattr(following, "_FIRST_PAUSE", 0.0)
    opened, reasons, enough = 0, list[str](), asyncio.Event()

    async def stream() -> AsyncGenerator[int, None]:
        nonlocal opened
        opened += 1
        if opened == 100:
            enough.set()
        if says_something:
            yield opened
        raise OSError("no luck")

    task = asyncio.create_task(following.follow("the news", stream, lambda _: None, reasons.append))
    async with asyncio.timeout(30):
        await enough.wait()
    task.cancel()
    await asyncio.wait([task])
    assert len(reasons) >= 99
    assert [record.getMessage() for record in caplog.records] == ["the news failed; what was known last stays in use"]
