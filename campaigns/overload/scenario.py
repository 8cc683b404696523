"""One campaign from its beginning to its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.gateway.load import processor_seconds
from benchmarks.report import Promise, Report, Table, percentile
from campaigns.overload.generator import SLICE, Found, Plan, Slice, found_of
from campaigns.overload.scene import Scene, open_scene

TIMES = 5.0
FIRST_RATE, GROWTH = 100.0, 1.25
KEPT_UP = 0.97
"""Of the requests of a step were answered in time: then the rate is one that can be sustained."""
IN_TIME = 0.25
"""Seconds, at the 99th percentile."""
AFTER = 8.0
"""Seconds of half the sustainable rate, in which the shop recovers."""

_WARM_UP = (50.0, 2.0)
_LONG = 4
"""Steps: for as long the peak is measured, which in one step varies by a sixth, and a rate is tried before it counts as
sustainable: what is too much by a tenth takes seconds to show."""
LEAST_GOODPUT = 0.8
"""Of the peak. On two cores that the generator shares it is near the edge: at 10,000 requests/s the 25 µs of each
refusal are a quarter of the gateway's core, and the generator's 12 µs an eighth of the other. Runs had 0.80 to 0.96 at
up to 12,000 requests/s, and 0.74 and 0.77 at 15,000, where a step counted as sustainable that was only just kept up."""
_LEAST_SOUND = 0.25
"""The part of the slices that must be judged at least: who stands still for longer is taken as it is."""
_LONGEST = 1.0
_MORE_MEMORY = 64.0  # MiB; a connection costs some 15 KiB, and the crowd may have 3,800
_RECOVERS_WITHIN = 5.0
_STAYS = round(2 / SLICE)
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Step:
    """What became of the requests of some time, in which the gateway's process had `cpu` seconds."""

    rate: float
    seconds: float
    asked: int
    answered: int
    refused: int
    failed: int
    p50: float
    p99: float
    cpu: float

    @classmethod
    def of(cls, rate: float, slices: Sequence[Slice], cpu: float) -> Step:
        """The sum of the slices, without those in which the crowd stood still: the shop is not to blame for these."""
        sound = [slice_ for _, slice_ in _sound(slices)]
        slices, cpu = sound, cpu * len(sound) / len(slices)
        took = [one for slice_ in slices for one in slice_.took] or [0.0]
        return cls(
            rate=rate,
            seconds=len(slices) * SLICE,
            asked=sum(slice_.asked for slice_ in slices),
            answered=sum(len(slice_.took) for slice_ in slices),
            refused=sum(slice_.refused for slice_ in slices),
            failed=sum(slice_.failed for slice_ in slices),
            p50=percentile(took, 50),
            p99=percentile(took, 99),
            cpu=cpu,
        )

    @property
    def goodput(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def keeps_up(self) -> bool:
        return self.answered >= KEPT_UP * self.asked and self.p99 <= IN_TIME


@dataclass
class _Watched:
    """The most memory that each process had, in MiB."""

    before: dict[str, float]
    most: dict[str, float] = field(default_factory=dict)

    @property
    def more(self) -> float:
        return max(self.most[name] - self.before[name] for name in self.before)


async def run(
    directory: Path,
    *,
    seconds: float,
    seed: int,
    step_seconds: float = 4.0,
    least_goodput: float = LEAST_GOODPUT,
    times: float = TIMES,
    tell: Callable[[str], None] = lambda line: None,
) -> Report:
    """Ask too much for so many seconds, after steps of `step_seconds`; `least_goodput` is the share of the peak that
    must be answered. Files go into `directory`."""
    async with open_scene(directory) as scene:
        tell(f"the shop is open; its logs are in {directory / 'logs'}")
        await _ask(scene, [_WARM_UP], seed)
        steps = await _find_limit(scene, step_seconds, seed, tell)
        full = max(steps, key=lambda step: step.goodput).rate
        sustainable = await _find_sustainable(scene, steps, _LONG * step_seconds, seed)
        before_rush = await _step(scene, full, _LONG * step_seconds, seed)
        rate = times * sustainable
        tell(f"{sustainable:,.0f}/s is sustainable; now {rate:,.0f}/s for {seconds:g} s")
        before = _memory(scene)
        async with _watching(scene, before) as watched:
            (rush, after), cpu = await _ask(scene, [(rate, seconds), (sustainable / 2, AFTER)], seed)
        after_rush = await _step(scene, full, _LONG * step_seconds, seed)
    step = Step.of(rate, rush, cpu)
    peak = (before_rush.goodput + after_rush.goodput) / 2
    recovered = recovery(after)
    return Report(
        "overload",
        {"seconds": f"{seconds:g}", "times": f"{times:g}", "seed": seed},
        [
            Table("requests", _COLUMNS, tuple(map(_row, [*steps, before_rush, step, after_rush]))),
            Table(
                "memory",
                ("process", "MiB before", "MiB at most"),
                tuple((name, before[name], watched.most[name]) for name in before),
            ),
        ],
        [
            Promise("answers a second, of the peak", step.goodput / peak, least_goodput, at_least=True),
            Promise("seconds that an answer took, p99", step.p99, _LONGEST),
            Promise("requests that had no answer at all, of all", step.failed / step.asked, 0.01),
            Promise("MiB that a process took beside", watched.more, _MORE_MEMORY),
            Promise("seconds until all was answered at once again", recovered, _RECOVERS_WITHIN),
        ],
        [_cost(steps, step), _left_out([*rush, *after])],
        command="faults",
    )


async def _find_limit(scene: Scene, seconds: float, seed: int, tell: Callable[[str], None]) -> list[Step]:
    """Steps of growing rates, up to the second that was too much."""
    steps: list[Step] = []
    rate, missed = FIRST_RATE, 0
    while missed < 2:  # in a row: one may be the machine's
        steps.append(step := await _step(scene, rate, seconds, seed))
        missed = 0 if step.keeps_up else missed + 1
        tell(f"{rate:8,.0f}/s: {step.goodput:,.0f} answers a second, p99 {1e3 * step.p99:,.0f} ms")
        rate *= GROWTH if rate > 4 * FIRST_RATE else 2
    return steps


async def _find_sustainable(scene: Scene, steps: list[Step], seconds: float, seed: int) -> float:
    """The highest of the rates that were kept up with, which is so for `seconds` too. The steps grow by those tried."""
    for rate in reversed([step.rate for step in steps if step.keeps_up]):
        steps.append(await _step(scene, rate, seconds, seed))
        if steps[-1].keeps_up:
            return rate
    return FIRST_RATE / 2


async def _step(scene: Scene, rate: float, seconds: float, seed: int) -> Step:
    (slices,), cpu = await _ask(scene, [(rate, seconds)], seed)
    return Step.of(rate, slices, cpu)


async def _ask(scene: Scene, phases: list[tuple[float, float]], seed: int) -> tuple[Found, float]:
    """What a crowd found, and the seconds of CPU that the gateway's process had meanwhile."""
    gateway = str(scene.pids["gateway"])
    plan = json.dumps(asdict(Plan(scene.port, scene.paths, phases, seed)))
    before = processor_seconds(gateway)
    crowd = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("generator.py")), plan), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(sum(seconds for _, seconds in phases) + 60):
            text, _ = await crowd.communicate()
    finally:
        if crowd.returncode is None:
            crowd.kill()
            await crowd.wait()
    return found_of(text.decode()), processor_seconds(gateway) - before


def _memory(scene: Scene) -> dict[str, float]:
    """The memory of each process, in MiB. proc(5): the second number of statm is what is resident, in pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    return {
        name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page / _MIB for name, pid in scene.pids.items()
    }


@contextlib.asynccontextmanager
async def _watching(scene: Scene, before: dict[str, float]) -> AsyncIterator[_Watched]:
    watched = _Watched(before, dict(before))

    async def watch() -> None:
        while True:
            for name, now in _memory(scene).items():
                watched.most[name] = max(watched.most[name], now)
            await asyncio.sleep(SLICE)

    task = asyncio.create_task(watch())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.wait((task,))


def recovery(after: Sequence[Slice]) -> float:
    """Seconds from the end of the rush until all is answered in time, and stays so for two; infinite if never."""
    well = [
        (number, not one.refused and not one.failed and percentile(one.took or [0.0], 99) <= IN_TIME)
        for number, one in _sound(after)
    ]
    for first in range(len(well) - _STAYS + 1):
        if all(good for _, good in well[first : first + _STAYS]):
            return well[first][0] * SLICE
    return float("inf")


def _sound(slices: Sequence[Slice]) -> list[tuple[int, Slice]]:
    """Those, with their numbers, in which the crowd did not stand still; all, if that are too few."""
    numbered = list(enumerate(slices))
    sound = [(number, slice_) for number, slice_ in numbered if not slice_.disturbed]
    return sound if len(sound) >= _LEAST_SOUND * len(slices) else numbered


_COLUMNS = ("asked/s", "answered/s", "refused/s", "failed", "p50 ms", "p99 ms", "gateway's CPU")


def _row(step: Step) -> tuple[float | int, ...]:
    refused = step.refused / step.seconds
    return (step.rate, step.goodput, refused, step.failed, 1e3 * step.p50, 1e3 * step.p99, step.cpu / step.seconds)


def _left_out(slices: Sequence[Slice]) -> str:
    return f"{sum(one.disturbed for one in slices)} of {len(slices)} slices are not judged: the crowd stood still"


def _cost(steps: Sequence[Step], rush: Step) -> str:
    """What a request costs the gateway that is answered, and what one that is refused."""
    best = max(steps, key=lambda step: step.goodput)
    answer = best.cpu / max(1, best.answered)
    refusal = (rush.cpu - rush.answered * answer) / max(1, rush.refused)
    return f"an answer costs the gateway {1e6 * answer:,.0f} µs of CPU, a refusal {1e6 * refusal:,.0f} µs"
