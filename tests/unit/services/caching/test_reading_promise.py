"""No schedule of reads, changes and faults makes a read break what `ReadThrough` promises."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from hypothesis import event, given, settings
from hypothesis import strategies as st

from shop_services.caching.copies import Copy, encode
from shop_services.caching.reading import ReadThrough
from tests.unit.services.caching.sources import Faulty, Follower, Source, Texts, reading
from tests.unit.services.caching.virtual_time import now, run

PROCESSES = 2
KEYS = ("a", "b")
PATIENCE = 0.25
LOAD = 0.04
LIE = encode("another key", Copy("a lie", 2**40), 2e9, Texts())


@dataclass(frozen=True)
class Step:
    """After `pause` seconds process number `process` does something with a key, or the cache breaks or is mended."""

    pause: float
    process: int
    key: str
    action: str
    fault: str


steps = st.builds(
    Step,
    pause=st.sampled_from((0.0, 0.0, 0.0, 0.001, 0.01, 0.01, 0.02, 0.03, 0.5)),
    process=st.integers(0, PROCESSES - 1),
    key=st.sampled_from(KEYS),
    action=st.sampled_from(
        ("read", "read", "read", "read many", "change", "commit", "write", "learn", "go blind", "break")
    ),
    fault=st.sampled_from(("well", "down", "frozen", "slow", "late", "deaf", "garbage")),
)


class World:
    """Processes that read one source through one shared cache, and a judge of all they read."""

    def __init__(self, seed: int) -> None:
        self.source = Source(seconds=LOAD)
        self.shared = Faulty()
        self.followers = [Follower(self.source) for _ in range(PROCESSES)]
        self.processes: list[ReadThrough[str]] = [
            reading(
                follower,
                self.shared,
                seed=seed + number,
                ttl=3.0,
                negative_ttl=1.0,
                refresh_ahead=0.5,
                patience=PATIENCE,
            )
            for number, follower in enumerate(self.followers)
        ]
        self.blind: list[list[tuple[float, bool]]] = [[(0.0, False)] for _ in range(PROCESSES)]

    async def play(self, schedule: list[Step]) -> None:
        reads: list[asyncio.Task[None]] = []
        for step in schedule:
            await asyncio.sleep(step.pause)
            match step.action:
                case "read":
                    reads.append(asyncio.create_task(self.read(step.process, [step.key])))
                case "read many":
                    reads.append(asyncio.create_task(self.read(step.process, list(KEYS))))
                case "write":  # as one that changes the source, knows of it at once, and lets the caches know
                    self.source.change(step.key)
                    self.followers[step.process].known[step.key] = self.source.revision
                    put = self.processes[step.process].put(step.key, self.source.copy(step.key))
                    reads.append(asyncio.create_task(put))
                case "commit":  # the same without letting the caches know
                    self.source.change(step.key, gone=True)
                    self.followers[step.process].known[step.key] = self.source.revision
                case "change":
                    self.source.change(step.key)
                case "learn":
                    self.followers[step.process].catch_up()
                    self.see(step.process, blind=False)
                case "go blind":
                    self.see(step.process, blind=True)
                case _:
                    self.break_cache(step.fault)
        await asyncio.gather(*reads)
        for process in self.processes:
            await process.__aexit__()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def see(self, process: int, *, blind: bool) -> None:
        self.followers[process].blind = blind
        self.blind[process].append((now(), blind))

    def break_cache(self, fault: str) -> None:
        self.shared.down = fault == "down"
        self.shared.seconds = {"frozen": 1e6, "slow": 0.06}.get(fault, 0.001)
        self.shared.late = 1.0 if fault == "late" else 0.0
        self.shared.deaf = fault == "deaf"
        self.shared.garbage = LIE if fault == "garbage" else None

    async def read(self, process: int, keys: list[str]) -> None:
        began = now()
        texts = self.processes[process]
        known = {key: self.followers[process].known.get(key, 0) for key in keys}
        latest = {key: self.source.latest(key) for key in keys}
        if len(keys) == 1:
            found = {keys[0]: await texts.get(keys[0], partial(self.source.load, keys[0]))}
        else:
            found = dict(await texts.get_many(keys, self.source.load_many))
        assert list(found) and set(found) == set(keys)  # noqa: PT018
        assert now() - began <= 2 * (PATIENCE + LOAD) + 1e-6, "the bound of what a read takes"
        for key, copy in found.items():
            self.judge(key, copy, known[key])
            if self.was_blind(process, began):
                event("blind")
                assert copy.as_of >= latest[key], "a process that knew nothing all the time has not asked the source"

    def judge(self, key: str, copy: Copy[str], known: int) -> None:
        assert copy.value == self.source.text(key, copy.as_of), "a value that the source never had"
        assert copy.as_of >= known, "older than what the process knew when the read began"
        if copy.as_of < self.source.latest(key):
            event("a change that the process did not know of")

    def was_blind(self, process: int, since: float) -> bool:
        """Whether the process was blind from `since` until now, at every moment."""
        history = [*self.blind[process], (now(), self.followers[process].blind)]
        return all(blind for (_, blind), (until, _) in pairwise(history) if until >= since) and history[-1][1]


@settings(max_examples=100)
@given(st.lists(steps, min_size=30, max_size=100), st.integers(0, 2**32))
def test_every_read_returns_in_time_what_was_current_after_it_began(schedule: list[Step], seed: int) -> None:
    """Whatever happens to the shared cache, a read ends in time with a value from the source, no older than allowed."""
    run(World(seed).play(schedule))
