"""What is broken, and when: a schedule drawn from the seed, and what carries it out."""

from __future__ import annotations

import asyncio
import enum
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol


class Kind(enum.StrEnum):
    """The ways to break something."""

    KILL = "kill -9"
    FREEZE = "freeze"
    CUT = "cut connections"


class Victim(Protocol):
    """Something that can be broken. What is broken already stays as it is: then the answer is False."""

    @property
    def name(self) -> str:
        """What it is called, with a number at the end where there are several."""

    @property
    def weights(self) -> Mapping[Kind, float]:
        """How it can be broken, and how often that is, relative to all others."""

    async def suffer(self, kind: Kind, seconds: float) -> bool:
        """Break it; its return, after so many seconds or by itself, is its own business."""


@dataclass(frozen=True, slots=True)
class Fault:
    """After `pause` seconds, the victim is broken for `seconds`, where it does not come back by itself."""

    pause: float
    victim: str
    kind: Kind
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind} {self.victim}" + (f" for {self.seconds:.1f} s" if self.kind is Kind.FREEZE else "")


_LEAST_MEAN_PAUSE, _MOST_MEAN_PAUSE = 1.5, 3.0
_LEAST_PAUSE = 0.1
_LEAST_AWAY, _MOST_AWAY = 0.2, 3.0
_LEAST_FROZEN, _MOST_FROZEN = 1.0, 15.0  # beyond 10 s its message is given to another worker


def schedule(victims: Sequence[Victim], rng: Random) -> Iterator[Fault]:
    """Faults without an end. How often they come is drawn first: on average once in 1.5 to 3 seconds."""
    choices = [(victim.name, kind, weight) for victim in victims for kind, weight in victim.weights.items()]
    weights = [weight for *_, weight in choices]
    mean_pause = rng.uniform(_LEAST_MEAN_PAUSE, _MOST_MEAN_PAUSE)
    while True:
        pause = _LEAST_PAUSE + rng.expovariate(1 / (mean_pause - _LEAST_PAUSE))
        [(victim, kind, _)] = rng.choices(choices, weights)
        frozen = kind is Kind.FREEZE
        seconds = rng.uniform(_LEAST_FROZEN, _MOST_FROZEN) if frozen else rng.uniform(_LEAST_AWAY, _MOST_AWAY)
        yield Fault(pause, victim, kind, seconds)


async def break_things(
    victims: Sequence[Victim], rng: Random, stop: asyncio.Event, tell: Callable[[str], None]
) -> Counter[tuple[str, Kind]]:
    """Carry out a schedule until `stop` is set; returns how often each kind of victim was broken in each way."""
    by_name = {victim.name: victim for victim in victims}
    done = Counter[tuple[str, Kind]]()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as sufferings:

        async def carry_out(fault: Fault) -> None:
            if await by_name[fault.victim].suffer(fault.kind, fault.seconds):
                done[fault.victim.rstrip("-0123456789"), fault.kind] += 1
            else:
                tell(f"{loop.time() - began:6.1f} s  {fault.victim} was left alone: it, or another like it, is broken")

        for fault in schedule(victims, rng):
            try:
                async with asyncio.timeout(fault.pause):
                    await stop.wait()
                break
            except TimeoutError:
                if stop.is_set():  # both at once, as where this process stood still
                    break
                tell(f"{loop.time() - began:6.1f} s  {fault}")
                sufferings.create_task(carry_out(fault))
    return done
