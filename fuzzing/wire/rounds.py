"""Rounds of conversations with a server, and the promises that are looked at after each."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuzzing.wire.conversation import Conversation, Ending, play
from fuzzing.wire.server import Census, WatchedServer

AT_ONCE = 12
"""Conversations at a time."""

GOOD_SECONDS = 60.0
"""How long a good call beside them may take, by a clock on the wall: a thousand times what it does, as the machine may
be busy with other things."""
_SETTLES_WITHIN = 30.0
"""How long it may take until what conversations held is let go."""
_CPU_SECONDS, _CPU_SECONDS_A_BYTE = 0.25, 4e-6
"""What the servers may spend on a conversation, on average over a round, and on each byte of it."""
_IDLE_SECONDS, _IDLE_SHARE = 0.5, 0.6
"""A server that nobody calls takes less of a CPU than this share, over so many seconds."""
_WARM_UP = 3
"""Rounds after which the memory of a server is what it stays at."""
_MEMORY, _MEMORY_A_ROUND = 48 << 20, 1 << 20
_BLOCKS, _BLOCKS_A_ROUND = 60_000, 100
"""By how much the bytes of memory, and the blocks of Python's, may have grown since then.

A server of grpcio 1.85.1 with nothing of ours does not give back 90 to 230 bytes of each call whose client leaves
before its message is whole, none of them Python's. A round has thousands of these calls: it is 0.8 MiB a round.
"""


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that was broken: which, how, and by which conversation if that is known."""

    kind: str
    what: str
    by: Conversation | None = None


@dataclass(slots=True)
class Tally:
    """What was done. `answers` counts them by the name of the conversation and the word for what was answered."""

    conversations: int = 0
    bytes_sent: int = 0
    good: int = 0
    rounds: int = 0
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    cpu: float = 0.0
    memory: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ring:
    """The servers of a search; the first is the one that is talked to.

    `good` makes a call that must succeed, `told` has the word for an answer, and `forbidden` those that no conversation
    may be given. `marks` are what stands in conversations for what is known only here, such as a token.
    """

    servers: Sequence[WatchedServer]
    good: Callable[[], Awaitable[None]]
    told: Callable[[bytes], str]
    forbidden: frozenset[str] = frozenset()
    marks: Mapping[bytes, bytes] = field(default_factory=dict)


class Rounds:
    """Rounds with the same servers, which must not be used any more once they have broken a promise."""

    def __init__(self, ring: Ring, tally: Tally) -> None:
        self._ring = ring
        self._tally = tally
        self._rest: list[Census] = []
        self._censuses: list[list[Census]] = []

    async def play(self, conversations: Sequence[Conversation]) -> Broken | None:
        """Play one round; the promise that was broken, or None."""
        servers, tally = self._ring.servers, self._tally
        if not self._rest:
            await self._ring.good()
            self._rest = [await server.census() for server in servers]
        cpu = sum(server.cpu() for server in servers)
        broken = await self._converse(conversations)
        for server in servers:
            if not server.running:
                return Broken("crash", f"{server!r} has ended: {server.log.read_text(errors='replace')[-2000:]}")
        if broken is not None:
            return broken
        tally.rounds += 1
        tally.conversations += len(conversations)
        tally.bytes_sent += (size := sum(one.size for one in conversations))
        tally.cpu += (spent := sum(server.cpu() for server in servers) - cpu)
        if spent > (limit := 1 + len(conversations) * _CPU_SECONDS + size * _CPU_SECONDS_A_BYTE):
            what = (
                f"{spent:.1f} s of CPU for {size} bytes in {len(conversations)} conversations, more than {limit:.1f} s"
            )
            return Broken("slow", what)
        for server in servers:
            if defects := server.defects():
                return Broken("log", f"{len(defects)} lines, the first: {defects[0][:4000]}")
        return await self._settled() or self._grown()

    async def _converse(self, conversations: Sequence[Conversation]) -> Broken | None:
        over = asyncio.Event()
        waiting = iter(conversations)
        found: list[Broken] = []
        async with asyncio.TaskGroup() as staying:

            async def speak(one: Conversation) -> None:
                answer = await self._one(one, over)
                if answer in self._ring.forbidden and not found:
                    found.append(Broken("answer", answer, one))

            async def speak_on(left: Iterator[Conversation]) -> None:
                for one in left:
                    if one.ending is Ending.STAY:
                        staying.create_task(speak(one))
                        await asyncio.sleep(0.02)
                    else:
                        await speak(one)

            async def speak_all() -> None:
                try:
                    await asyncio.gather(*(speak_on(waiting) for _ in range(AT_ONCE)))
                finally:
                    over.set()

            staying.create_task(speak_all())
            beside = staying.create_task(self._call_beside(over))
        return beside.result() or (found[0] if found else None)

    async def _one(self, conversation: Conversation, over: asyncio.Event) -> str:
        try:
            answer = self._ring.told(await play(conversation.told(self._ring.marks), self._ring.servers[0].port, over))
        except (OSError, TimeoutError) as error:
            answer = f"not connected: {type(error).__name__}"
        self._tally.answers[conversation.name, answer] += 1
        return answer

    async def _call_beside(self, over: asyncio.Event) -> Broken | None:
        """Good calls, one after the other, as long as the round goes on; one at least."""
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(GOOD_SECONDS):
                    await self._ring.good()
            except Exception as error:  # whatever it is that went wrong with it
                took = time.monotonic() - began
                return Broken("good call", f"failed after {took:.1f} s: {type(error).__name__}: {error}"[:2000])
            self._tally.good += 1
            if over.is_set():
                return None
            await asyncio.sleep(0.05)

    async def _settled(self) -> Broken | None:
        """Wait until the servers hold no more files and tasks than before, and take no CPU."""
        until = time.monotonic() + _SETTLES_WITHIN
        censuses = []
        for server, rest in zip(self._ring.servers, self._rest, strict=True):
            while more := (now := await server.census()).more_than(rest):
                if time.monotonic() > until:
                    return Broken("leak", f"{_SETTLES_WITHIN:g} s after the last conversation {server!r} has {more}")
                await asyncio.sleep(0.1)
            censuses.append(now)
        self._censuses.append(censuses)
        self._tally.memory.append(censuses[0].memory)
        before = [server.cpu() for server in self._ring.servers]
        await asyncio.sleep(_IDLE_SECONDS)
        for server, cpu in zip(self._ring.servers, before, strict=True):
            if (spent := server.cpu() - cpu) > _IDLE_SHARE * _IDLE_SECONDS:
                return Broken(
                    "spin", f"{server!r} took {spent:.2f} s of CPU in {_IDLE_SECONDS:g} s, though nobody calls"
                )
        return None

    def _grown(self) -> Broken | None:
        """Whether memory has grown since the warm-up by more than bounded caches do."""
        rounds = len(self._censuses) - _WARM_UP
        if rounds <= 0:
            return None
        for server, then, now in zip(self._ring.servers, self._censuses[_WARM_UP - 1], self._censuses[-1], strict=True):
            memory, blocks = now.memory - then.memory, now.blocks - then.blocks
            if memory > _MEMORY + _MEMORY_A_ROUND * rounds or blocks > _BLOCKS + _BLOCKS_A_ROUND * rounds:
                what = f"{server!r} holds {memory >> 20} MiB and {blocks} blocks of Python's more after {rounds} rounds"
                return Broken("memory", what)
        return None
