"""Calls at a steady rate, whatever becomes of them, and what became of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import grpc.aio

from benchmarks.report import Table, percentile

DEADLINE = 10.0
"""Seconds a call is given. So no more than that many times the rate are ever in progress."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a call asks for: a method, and for how long it takes the server, in seconds."""

    method: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has ended, in seconds of the event loop's clock; `due` is when it should have begun.

    `answered_by` is an instance's id, empty if the call failed; then `failure` says with what.
    """

    number: int
    method: str
    due: float
    began: float
    ended: float
    answered_by: str
    failure: str = ""

    @property
    def elapsed(self) -> float:
        """Seconds since it was due: a client that is late itself does not make the servers look fast."""
        return self.ended - self.due


@dataclass
class Traffic:
    """All calls that have ended, in that order."""

    calls: list[Call] = field(default_factory=list)

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if call.failure]


@contextlib.asynccontextmanager
async def traffic(channel: grpc.aio.Channel, rate: float, work: Callable[[int], Work]) -> AsyncIterator[Traffic]:
    """Begin `rate` calls a second, each with its `work(number)`, until the block ends; then wait for the last."""
    made = Traffic()
    stop = asyncio.Event()
    task = asyncio.create_task(_keep_calling(channel, rate, work, made, stop))
    try:
        yield made
    finally:
        stop.set()
        await task


async def _keep_calling(
    channel: grpc.aio.Channel, rate: float, work: Callable[[int], Work], made: Traffic, stop: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    began, number = loop.time(), 0
    async with asyncio.TaskGroup() as calls:
        while not stop.is_set():
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            calls.create_task(_call(channel, number, due, work(number), made))
            number += 1


async def _call(channel: grpc.aio.Channel, number: int, due: float, work: Work, made: Traffic) -> None:
    loop = asyncio.get_running_loop()
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(work.method)
    began, answered_by, failure = loop.time(), "", ""
    try:
        answered_by = (await method(b"%d %.4f" % (number, work.seconds), timeout=DEADLINE)).decode()
    except grpc.aio.AioRpcError as error:
        failure = f"{error.code().name}: {error.details()}"
    made.calls.append(Call(number, work.method, due, began, loop.time(), answered_by, failure))


def by_method(calls: Sequence[Call]) -> Table:
    """How many calls of each method there were, how many failed, and how long they took."""
    rows = []
    for method in sorted({call.method for call in calls}):
        its = [call for call in calls if call.method == method]
        took = [1e3 * call.elapsed for call in its]
        failed = sum(1 for call in its if call.failure)
        rows.append((method, len(its), failed, percentile(took, 50), percentile(took, 99), max(took)))
    return Table("calls", ("method", "calls", "failed", "p50 ms", "p99 ms", "max ms"), tuple(rows))


def by_server(calls: Iterable[Call], broken: Counter[str], what: str) -> Table:
    """How many calls each server has answered, and how often it was broken."""
    answered = Counter(call.answered_by.rpartition("-")[0] for call in calls if call.answered_by)
    rows = tuple((name, answered[name], broken[name]) for name in sorted({*answered, *broken}))
    return Table("servers", ("server", "calls answered", what), rows)


def told(calls: Sequence[Call], *, most: int = 10) -> list[str]:
    """The first of the failed calls, for whoever looks for the cause."""
    lines = [f"call {call.number} {call.method} after {call.elapsed:.3f} s: {call.failure}" for call in calls[:most]]
    return lines + ([f"and {len(calls) - most} more"] if len(calls) > most else [])
