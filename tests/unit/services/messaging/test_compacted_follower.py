"""What a follower of a compacted log on JetStream makes of a server that answers nonsense."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from shop_services.messaging.compacted import Record, StartOver
from shop_services.messaging.jetstream import compacted_follower
from shop_services.messaging.jetstream.compacted_follower import JetStreamFollower
from shop_services.messaging.jetstream.compacted_reading import Batch, Found
from shop_services.messaging.jetstream.reading import Condition

RECORD = Record("key", b"value", 1, cleared=False)


class _Server:
    """A connection, its link, the streams and a reader of one that holds `RECORD`, after it has raised `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.created = "today"
        self.current = self
        self.lost = asyncio.Event()

    async def link(self) -> _Server:
        return self

    def wait(self, _seconds: float) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def ensure(self, _link: object, _stream: str) -> None:
        """The stream is there."""

    def missing(self, _stream: str) -> None:
        """It is looked for again."""

    async def condition(self, _link: object) -> Condition:
        return Condition(self.created, messages=1, bytes=100, last=1, time=datetime(2026, 1, 1, tzinfo=UTC))

    async def since(self, _link: object, sequence: int) -> tuple[Batch, int]:
        if self.errors:
            raise self.errors.pop(0)
        return Batch([Found(1, RECORD, "id")][sequence:], more=False), 0


def _follower(server: _Server) -> JetStreamFollower:
    parts = cast("Any", server)
    return JetStreamFollower(parts, parts, parts, "log", marker_age=60.0, clock=lambda: 1.0)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacted_follower, "_PAUSE", 0.0)


@pytest.mark.parametrize("error", [OSError("no route"), KeyError("Nats-Sequence"), ValueError("not JSON")], ids=repr)
async def test_no_error_ends_a_follower(error: Exception) -> None:
    """Whatever a look ends with, the next one reads what there is: nobody else would."""
    async with asyncio.timeout(5):
        assert (await _follower(_Server(error, error)).read()).records == (RECORD,)


async def test_a_follower_says_when_to_start_over() -> None:
    """Of a log that was made anew, once; then it reads that one."""
    server = _Server()
    follower = _follower(server)
    async with asyncio.timeout(5):
        await follower.read()
        server.created = "tomorrow"
        with pytest.raises(StartOver) as told:
            await follower.read()
        assert told.value.lost
        assert (await follower.read()).records == (RECORD,)
