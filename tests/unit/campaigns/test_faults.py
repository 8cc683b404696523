"""What a campaign breaks, and when, follows from the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import islice
from random import Random

import pytest

from campaigns.faults import Fault, Kind, break_things, schedule


class Something:
    """A victim that remembers what it suffered."""

    name = "something-2"
    weights: Mapping[Kind, float] = {Kind.KILL: 1.0, Kind.FREEZE: 1.0}

    def __init__(self, answer: bool = True) -> None:
        self.suffered = asyncio.Event()
        self._answer = answer

    async def suffer(self, kind: Kind, seconds: float) -> bool:
        self.suffered.set()
        return self._answer


def test_a_seed_gives_the_same_faults() -> None:
    """Two schedules of one seed are equal; every way to break a victim comes up."""

    def first(seed: int) -> list[Fault]:
        return list(islice(schedule([Something()], Random(seed)), 40))

    assert first(1) == first(1) != first(2)
    assert {fault.kind for fault in first(1)} == set(Something.weights)


@pytest.mark.parametrize(("answer", "counted"), [(True, 1), (False, 0)])
async def test_faults_are_told_and_counted(answer: bool, counted: int) -> None:
    """Every fault is told as it happens; what was broken already is left alone, which is told, and not counted."""
    victim, stop, lines = Something(answer), asyncio.Event(), list[str]()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        breaking = tasks.create_task(break_things([victim], Random(3), stop, lines.append))
        await victim.suffered.wait()
        stop.set()
    assert breaking.result().total() == counted
    assert {name for name, _ in breaking.result()} <= {"something"}
    assert len(lines) == 2 - counted
    assert all("something-2" in line for line in lines)
