"""The search: requests from seeds and from those that led somewhere new, until the time is over."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from google.protobuf.descriptor import ServiceDescriptor
from starlette.types import ASGIApp

import shop_services.gateway
from fuzzing.found import Finding
from fuzzing.transcoder.arena import Arena, Outcome
from fuzzing.transcoder.backend import Backend
from fuzzing.transcoder.judge import Judge, Wrong
from fuzzing.transcoder.lines import Lines
from fuzzing.transcoder.request import Request
from fuzzing.transcoder.seeds import Seeds
from fuzzing.transcoder.spoiling import Spoiler

MOST_FINDINGS = 10
"""How many different findings end a search."""

_CORPUS = 3000
_EXPLORING = 1 / 3
"""The part of the time in which inputs are collected. Later nothing here grows, so that what grows is a leak."""
_BLOCKS = 60_000
"""By how many blocks of memory bounded caches may grow in the rest of the time: as many as all of them have."""
_BLOCKS_A_REQUEST = 0.1
_TRACED = 500
"""Requests after a leak of memory that are traced, to tell where it is."""
_SIMPLER = 300
"""How many simpler versions of a found input are tried."""


@dataclass(slots=True)
class Search:
    """What was done, and what came of it."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    lines: int = 0
    corpus: int = 0
    slowest: float = 0.0
    blocks: int = 0
    findings: list[Finding] = field(default_factory=list)


class Hunter:
    """Plays requests to the application that `make` makes for a backend, and judges what comes of them."""

    def __init__(self, services: Sequence[ServiceDescriptor], make: Callable[[Backend], ASGIApp]) -> None:
        self._backend = Backend()
        self._app = make(self._backend)
        self._judge = Judge(services)
        self._seeds = Seeds(services)
        self._spoiler = Spoiler(self._seeds.tokens)
        self._lines = Lines(Path(shop_services.gateway.__file__).parent)

    def judged(self, arena: Arena, request: Request) -> tuple[Outcome, Wrong | None]:
        """Play one request; what is wrong with what came of it."""
        self._backend.forget()
        outcome = arena.play(request)
        wrong = self._judge.wrong(request, outcome, list(self._backend.made))
        if wrong is None and (wrong := self._judge.too_much(request, outcome)) is not None and wrong[0] == "slow":
            # Once more: the first time may have been that of a cache, or of the collector of garbage.
            again = [arena.play(request) for _ in range(2)]
            wrong = self._judge.too_much(request, min((outcome, *again), key=lambda one: one.cpu))
        return outcome, wrong

    def again(self, requests: Sequence[Request]) -> list[Wrong]:
        """What is wrong with these."""
        with Arena(self._app) as arena:
            return [wrong for request in requests if (wrong := self.judged(arena, request)[1]) is not None]

    def search(self, seed: int, seconds: float, tell: Callable[[str], None]) -> Search:
        """Look for so many seconds, or until `MOST_FINDINGS` are found."""
        found = Search()
        rng = Random(seed)
        corpus = [self._seeds.one(rng) for _ in range(300)]
        known: set[str] = set()
        blocks = at_blocks = 0
        began = time.monotonic()
        exploring = True
        with Arena(self._app) as arena:
            while (passed := time.monotonic() - began) < seconds and len(known) < MOST_FINDINGS:
                if exploring and passed > seconds * _EXPLORING:
                    exploring = False
                    blocks, at_blocks = _blocks(), found.requests
                request = self._next(rng, corpus)
                before = self._lines.seen
                if exploring:
                    with self._lines.watching():
                        outcome, wrong = self.judged(arena, request)
                else:
                    outcome, wrong = self.judged(arena, request)
                found.requests += 1
                found.statuses[outcome.status] += 1
                found.slowest = max(found.slowest, outcome.cpu)
                by_chance = exploring and rng.random() < 0.02 and len(corpus) < _CORPUS and request.size < 5000
                if self._lines.seen > before or by_chance:
                    corpus.append(request)
                if wrong is not None and (where := _where(wrong, outcome)) not in known:
                    known.add(where)
                    simplest = self._simplest(arena, request, wrong)
                    found.findings.append(Finding(*wrong, inputs=[simplest.json()]))
                    tell(f"{passed:6.1f} s  {found.findings[-1]}\n          {simplest!r}"[:1500])
            if not exploring:
                found.blocks = _blocks() - blocks
                if found.blocks > _BLOCKS + _BLOCKS_A_REQUEST * (found.requests - at_blocks):
                    what = f"{found.blocks} more blocks after {found.requests - at_blocks} requests"
                    found.findings.append(Finding("leak of memory", f"{what}; {self._growing(arena, rng, corpus)}"))
                    tell(str(found.findings[-1]))
        found.lines, found.corpus = self._lines.seen, len(corpus)
        return found

    def _next(self, rng: Random, corpus: Sequence[Request]) -> Request:
        request = self._seeds.one(rng) if rng.random() < 0.2 else rng.choice(corpus)
        return request if rng.random() < 0.05 else self._spoiler.spoilt(rng, request, rng.choice(corpus))

    def _simplest(self, arena: Arena, request: Request, wrong: Wrong) -> Request:
        """The least of `request` that is wrong in the same way, as far as a few hundred attempts find it."""
        left = _SIMPLER if wrong[0] not in ("hang", "slow", "memory") else 0
        size = max(1, request.size // 2)
        while size and left > 0:
            for simpler in _simpler(request, size):
                left -= 1
                found = self.judged(arena, simpler)[1]
                if found is not None and found[0] == wrong[0]:
                    request = simpler
                    break
                if left <= 0:
                    break
            else:
                size //= 2
        return request

    def _growing(self, arena: Arena, rng: Random, corpus: Sequence[Request]) -> str:
        """The lines of which most memory stays while some more requests are played."""
        tracemalloc.start()
        try:
            before = tracemalloc.take_snapshot()
            for _ in range(_TRACED):
                self.judged(arena, self._next(rng, corpus))
            grown = tracemalloc.take_snapshot().compare_to(before, "lineno")
        finally:
            tracemalloc.stop()
        return "; ".join(f"{one.traceback}: {one.count_diff} blocks" for one in grown[:5])


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def _where(wrong: Wrong, outcome: Outcome) -> str:
    """What tells findings apart: the promise, and where the exception came from if it was one."""
    trace = outcome.error.__traceback__ if outcome.error is not None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{wrong[0]} {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else wrong[0]


def _simpler(request: Request, size: int) -> list[Request]:
    """`request` without `size` bytes of its body, query or path, at each place, or without a header or its chunks."""
    simpler = [
        replace(request, headers=request.headers[:at] + request.headers[at + 1 :]) for at in range(len(request.headers))
    ]
    body = request.body
    if len(request.chunks) > 1:
        simpler.append(replace(request, chunks=(body,)))
    simpler += [replace(request, chunks=(body[:at] + body[at + size :],)) for at in range(0, len(body), size)]
    query, path = request.query, request.path
    simpler += [replace(request, query=query[:at] + query[at + size :]) for at in range(0, len(query), size)]
    simpler += [replace(request, path=path[:at] + path[at + size :]) for at in range(0, len(path), size)]
    return simpler
