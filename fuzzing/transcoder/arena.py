"""One request after another to an application in this process, and all that can be seen of each."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Self

from starlette.types import ASGIApp, Message
from structlog.testing import capture_logs

from fuzzing.transcoder.request import Request

HANGS_AFTER = 30.0
"""Seconds, of the CPU or of waiting for nothing, after which a request has no answer. Most take 0.0002."""

_AFTERWARDS = 1.0
"""Seconds more for a request without an answer: all of this process may have stood still before."""

_TURNS = 10
"""How many turns of the event loop the tasks that a request began may take to end after it."""


class _Hangs(BaseException):
    """Raised where a request takes too much of the CPU; no `except Exception` is to catch it."""


@dataclass(slots=True)
class Outcome:
    """What came of a request.

    `left` are the tasks that it left behind, `logged` what was logged as an error. `cpu` is in seconds, `peak` the
    bytes by which the process' peak of memory grew.
    """

    starts: list[Message] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False
    wrong_events: list[str] = field(default_factory=list)
    error: BaseException | None = None
    hangs: bool = False
    left: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    cpu: float = 0.0
    peak: int = 0

    @property
    def status(self) -> int:
        """0: none."""
        return int(self.starts[0]["status"]) if self.starts else 0

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.starts[0].get("headers", ())) if self.starts else []

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


class Arena:
    """Where requests are played; it has an event loop of its own, and must be closed. For the main thread alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._runner = asyncio.Runner()
        self._unhandled: list[str] = []
        loop = self._runner.get_loop()
        loop.set_exception_handler(lambda _loop, context: self._unhandled.append(str(context)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._runner.close()

    def play(self, request: Request) -> Outcome:
        """Send `request`, and return what came of it, whatever that is."""
        outcome = Outcome()
        peak = _peak()
        self._unhandled.clear()
        with _limited(), capture_logs() as logs:
            began = time.thread_time()
            try:
                self._runner.run(self._ask(request, outcome))
            except _Hangs:
                outcome.hangs = True
            outcome.cpu = time.thread_time() - began
        outcome.peak = _peak() - peak
        outcome.logged = [str(event) for event in logs if event["log_level"] in ("error", "critical")]
        outcome.logged += self._unhandled
        return outcome

    async def _ask(self, request: Request, outcome: Outcome) -> None:
        events = request.events()

        async def receive() -> Message:
            if events:
                return events.pop(0)
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # never

        async def send(message: Message) -> None:
            await asyncio.sleep(0)
            _note(message, outcome)

        try:
            async with _waiting(HANGS_AFTER):
                await self._app(request.scope(), receive, send)
        except TimeoutError as error:
            outcome.hangs, outcome.error = True, error
        except (Exception, asyncio.CancelledError) as error:
            outcome.error = error
        outcome.left = await _left_behind()


@asynccontextmanager
async def _waiting(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` in the block after `seconds`, and some that begin only then."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        late = loop.call_later(seconds, lambda: limit.reschedule(loop.time() + _AFTERWARDS))
        try:
            yield
        finally:
            late.cancel()


def _note(message: Message, outcome: Outcome) -> None:
    match message["type"]:
        case "http.response.start" if not outcome.starts:
            outcome.starts.append(message)
        case "http.response.body" if outcome.starts and not outcome.ended:
            outcome.chunks.append(bytes(message.get("body", b"")))
            outcome.ended = not message.get("more_body", False)
        case kind:
            outcome.wrong_events.append(kind)


async def _left_behind() -> list[str]:
    """The tasks that have not ended though what began them has; they are cancelled."""
    me = asyncio.current_task()
    left: list[asyncio.Task[Any]] = []
    for _ in range(_TURNS):
        left = [task for task in asyncio.all_tasks() if task is not me]
        if not left:
            break
        await asyncio.sleep(0)
    for task in left:
        task.cancel()
    return [repr(task.get_coro()) for task in left]


@contextmanager
def _limited() -> Iterator[None]:
    """Raise `_Hangs` where the CPU's time for one request is over."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANGS_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
