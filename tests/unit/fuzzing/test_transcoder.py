"""The fuzzer of the transcoder: what it has found stays mended, and it finds faults that are put there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from fuzzing import transcoder
from fuzzing.found import inputs_of, kept
from fuzzing.transcoder.backend import Backend
from fuzzing.transcoder.request import Request

Wrapped = Callable[[ASGIApp, Scope, Receive, Send], Any]

_kept: list[Any] = []  # what a fault holds on to


@pytest.mark.parametrize("path", kept("transcoder"), ids=lambda path: path.stem)
def test_what_was_found_stays_mended(path: Path) -> None:
    """Every promise is kept for every input that once broke one."""
    assert transcoder.replay(inputs_of(path)) == []


def test_a_request_is_kept_as_it_was() -> None:
    """What is written into a file is what is played again, to the byte."""
    request = Request("GET", b"/\xff", b"\x00=%", ((b"a", b"\xe9"),), (b"\x80", b""), leaves=True)
    assert Request.of(request.json()) == request


async def crash(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if b"%" in scope["raw_path"]:
        raise ValueError(scope["raw_path"])
    await app(scope, receive, send)


async def hang(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["query_string"]:
        await asyncio.Event().wait()
    await app(scope, receive, send)


async def leak_a_task(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "POST":
        _kept.append(asyncio.create_task(asyncio.Event().wait()))
    await app(scope, receive, send)


async def leak_memory(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    _kept.append([object() for _ in range(400)])
    await app(scope, receive, send)


async def be_slow(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    body = b"".join([name + value for name, value in scope["headers"]]) + scope["raw_path"] + scope["query_string"]
    for at in range(len(body)):
        body[at:].count(b"\x00\x01")
    await app(scope, receive, send)


async def say_something_else(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async def sent(message: Any) -> None:
        if message["type"] == "http.response.body":
            message["body"] = message["body"].replace(b"true", b"null")
        await send(message)

    await app(scope, receive, sent)


async def answer_twice(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
    if b"accept" in dict(scope["headers"]):
        await send({"type": "http.response.body", "body": b"more"})


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (crash, "exception"),
        (hang, "hang"),
        (leak_a_task, "leak of tasks"),
        (leak_memory, "leak of memory"),
        (be_slow, "slow hang"),
        (say_something_else, "answer"),
        (answer_twice, "form"),
    ],
)
def test_a_fault_is_found(fault: Wrapped, kinds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transcoder with a fault is told from one without, by the promise that the fault breaks (of one or another)."""
    monkeypatch.setattr("fuzzing.transcoder.arena.HANGS_AFTER", 2.0)
    monkeypatch.setattr("fuzzing.transcoder.hunt.MOST_FINDINGS", 1)
    monkeypatch.setattr("fuzzing.transcoder.hunt._SIMPLER", 20)

    def make(backend: Backend) -> ASGIApp:
        app = transcoder.transcoder(backend)

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            await fault(app, scope, receive, send)

        return faulty

    # A request is a millisecond, however long it takes; a leak of memory is told when the time is over.
    monkeypatch.setattr("fuzzing.transcoder.hunt.time", SimpleNamespace(monotonic=count(step=0.001).__next__))
    found = transcoder.search(1, 0.6 if kinds == "leak of memory" else 60.0, print, make)
    _kept.clear()
    assert {finding.kind for finding in found.findings} & {kinds, *kinds.split()}
    inputs = [inputs for finding in found.findings for inputs in finding.inputs]
    if inputs:
        assert transcoder.replay(inputs, make) != []
        assert transcoder.replay(inputs) == []
    else:
        assert kinds == "leak of memory"
    _kept.clear()
