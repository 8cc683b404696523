"""The search: rounds of conversations that follow from a seed, until the time is over or enough is found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.report import Promise, Report, Table
from fuzzing.found import Finding
from fuzzing.wire.conversation import Conversation
from fuzzing.wire.rounds import Broken, Ring, Rounds, Tally

IN_A_ROUND = 240
"""Conversations."""
MOST_FINDINGS = 5
"""How many findings end a search: after each the servers are started anew."""

_ALONE = ("memory", "spin")
"""What cannot be told of one conversation."""
_BLAMED_WITHIN = 300.0
"""Seconds for the search for the conversations that are to blame."""

Open = Callable[[Path], AbstractAsyncContextManager[Ring]]
"""Starts the servers, with their files in a directory of their own."""


@dataclass(slots=True)
class Search:
    """What was done, and what came of it."""

    tally: Tally = field(default_factory=Tally)
    findings: list[Finding] = field(default_factory=list)


class Hunter:
    """Talks to the servers that `open_ring` starts below `directory`; `make` makes the conversations."""

    def __init__(self, open_ring: Open, make: Callable[[Random], Conversation], directory: Path) -> None:
        self._open = open_ring
        self._make = make
        self._directory = directory
        self._opened = 0

    async def search(self, seed: int, seconds: float, tell: Callable[[str], None]) -> Search:
        """Look for so many seconds, or until `MOST_FINDINGS` are found. A round that has begun is finished."""
        search = Search()
        began = time.monotonic()
        number = 0

        def left() -> bool:
            return time.monotonic() - began < seconds and len(search.findings) < MOST_FINDINGS

        while left():
            async with self._ring() as ring:
                rounds = Rounds(ring, search.tally)
                broken: Broken | None = None
                conversations: list[Conversation] = []
                while broken is None and left():
                    names = range(number, number + IN_A_ROUND)
                    conversations = [self._make(Random(f"{seed}/{name}")) for name in names]
                    number += IN_A_ROUND
                    broken = await rounds.play(conversations)
            if broken is not None:
                tell(f"{time.monotonic() - began:6.1f} s  {broken.kind}: {broken.what}"[:2000])
                blamed = await self._blamed(conversations, broken)
                search.findings.append(Finding(broken.kind, broken.what, [one.json() for one in blamed]))
                tell(
                    f"          shown again by {', '.join(one.name for one in blamed) or 'nothing that was tried'}"[
                        :500
                    ]
                )
        return search

    async def again(self, conversations: Sequence[Conversation]) -> Broken | None:
        """What is broken when these are played to new servers, twice: what is left behind may only show then."""
        async with self._ring() as ring:
            rounds = Rounds(ring, Tally())
            return await rounds.play(conversations) or await rounds.play(conversations)

    async def _blamed(self, conversations: Sequence[Conversation], broken: Broken) -> Sequence[Conversation]:
        """The fewest of them that break the same again, as far as halving finds them; none if nothing does."""
        if broken.by is not None:
            return [broken.by]
        if broken.kind in _ALONE:
            return []
        until = time.monotonic() + _BLAMED_WITHIN
        blamed: Sequence[Conversation] = []
        halves = [conversations]
        while halves and time.monotonic() < until:
            half = halves.pop(0)
            again = await self.again(half)
            if again is not None and again.kind == broken.kind:
                blamed = half
                middle = len(half) // 2
                halves = [half[:middle], half[middle:]] if middle else []
        return blamed

    def _ring(self) -> AbstractAsyncContextManager[Ring]:
        self._opened += 1
        return self._open(self._directory / f"servers-{self._opened}")


def report(name: str, search: Search, *, seconds: float, seed: int) -> tuple[Report, list[Finding]]:
    """What a search did, and what it found."""
    tally = search.tally
    words = sorted({word for _, word in tally.answers})
    rows = tuple(
        (kind, *(tally.answers.get((kind, word)) for word in words))
        for kind in sorted({kind for kind, _ in tally.answers})
    )
    memory = ", ".join(str(held >> 20) for held in tally.memory[:: max(1, len(tally.memory) // 8)]) or "not looked at"
    notes = [
        f"{tally.conversations:,} conversations of {tally.bytes_sent / 1e6:.0f} MB in {tally.rounds} rounds.",
        f"{tally.good:,} good calls beside them; {tally.cpu:.0f} s of the servers' CPU; MiB after rounds: {memory}.",
        *map(str, search.findings),
    ]
    promises = [Promise("no crash, hang, leak or failed call beside", len(search.findings), 0)]
    table = Table("Conversations, and what they were answered", ("began as", *words), rows)
    settings = {"seconds": f"{seconds:g}", "seed": seed}
    return Report(name, settings, [table] if rows else [], promises, notes, command="fuzz"), search.findings
