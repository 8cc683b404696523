"""The crowd asks at its rate, whatever becomes of what it asks."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from campaigns.overload import generator
from campaigns.overload.generator import SLICE, Found, Plan, found_of, is_disturbed

DEADLINE = 30.0


class Answering(asyncio.Protocol):
    """Answers each request with `answer`; an empty one is none, None closes the connection."""

    def __init__(self, answer: bytes | None, asked: list[bytes]) -> None:
        self._answer = answer
        self._asked = asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked.append(data.split(b" ")[1])
        if self._answer is None:
            self._transport.abort()
        else:
            self._transport.write(self._answer)


@asynccontextmanager
async def serving(answer: bytes | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    asked: list[bytes] = []
    server = await asyncio.get_running_loop().create_server(lambda: Answering(answer, asked), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


async def crowd(port: int, *phases: tuple[float, float]) -> Found:
    """Run a crowd as the campaign does."""
    plan = Plan(port, ["/a", "/b"], phases, seed=1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(generator.__file__)), json.dumps(asdict(plan))), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE):
        text, _ = await process.communicate()
    assert process.returncode == 0
    return found_of(text.decode())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "answered"),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "refused"),
        (b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n", "refused"),
        (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", "failed"),
        (None, "failed"),
    ],
)
async def test_each_request_has_one_outcome(answer: bytes | None, outcome: str) -> None:
    """What was asked for is answered, refused or failed, and was due in some slice of its phase."""
    async with serving(answer) as (port, asked):
        first, second = await crowd(port, (200.0, 1.0), (50.0, 0.5))
    assert [len(first), len(second)] == [2, 1]
    assert set(asked) == {b"/a", b"/b"}
    for one in (*first, *second):
        counts = {"answered": len(one.took), "refused": one.refused, "failed": one.failed}
        assert counts == {"answered": 0, "refused": 0, "failed": 0} | {outcome: one.asked}
    assert 150 <= sum(one.asked for one in first) <= 250
    assert 10 <= sum(one.asked for one in second) <= 45


async def test_no_answer_slows_nobody_down() -> None:
    """With a server that never answers, as much is asked for as with any other, and all of it has failed."""
    async with serving(b"") as (port, asked):
        (slices,) = await crowd(port, (300.0, 1.0))
    assert len(asked) == sum(one.asked for one in slices) == sum(one.failed for one in slices)
    assert len(asked) >= 230


async def test_a_crowd_that_stood_still_says_so() -> None:
    """The slice is marked in which its process did not run."""

    class Halting(Answering):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(asked) == 100:
                stopped.append(loop.time())
                time.sleep(0.5)  # crowd and server are in one process here

    asked: list[bytes] = []
    stopped: list[float] = []
    loop = asyncio.get_running_loop()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    server = await loop.create_server(lambda: Halting(answer, asked), "127.0.0.1", 0)
    try:
        plan = Plan(server.sockets[0].getsockname()[1], ["/a"], [(100.0, 3.0)], seed=1)
        crowd = generator._Crowd(plan, loop)
        await crowd.act()
    finally:
        server.close()
    assert [one.disturbed for began, one in crowd._begun if began <= stopped[0] + 0.25 < began + SLICE] == [True]


@pytest.mark.parametrize(("began", "disturbed"), [(8.9, False), (9.1, True), (10.0, True), (13.4, True), (13.6, False)])
def test_a_standstill_disturbs_what_is_beside_it(began: float, disturbed: bool) -> None:
    """Those half a second before it and the second after it suffer, too: what was under way, and the rush."""
    assert is_disturbed(began, [(0.0, 0.3), (10.0, 12.5)]) == disturbed
