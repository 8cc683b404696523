"""What a campaign asks for, and breaks, follows from the seed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from campaigns import cli
from campaigns.checkout.faults import Fault, Kind, break_things, schedule
from campaigns.checkout.plan import PRODUCTS, REFUSED, draw_plan


def test_a_seed_gives_the_same_purchases() -> None:
    """Two plans of one seed are equal, and of another seed are not."""
    assert draw_plan(50, Random(1)) == draw_plan(50, Random(1)) != draw_plan(50, Random(2))


def test_a_plan_has_something_of_everything() -> None:
    """Of a thousand purchases some are repeated, refused and called off, and some products are too few for them."""
    plan = draw_plan(1000, Random(1))
    wanted = Counter[int]()
    for purchase in plan.purchases:
        wanted.update(purchase.items)
    short = [number for number in range(PRODUCTS) if wanted[number] > plan.products[number].stock]
    assert len(short) == PRODUCTS // 4
    assert len({purchase.request_id for purchase in plan.purchases}) == 1000
    assert {purchase.copies > 1 for purchase in plan.purchases} == {True, False}
    assert {purchase.late for purchase in plan.purchases} == {True, False}
    assert {purchase.card for purchase in plan.purchases} > REFUSED
    statuses = {purchase.cancellation.status for purchase in plan.purchases if purchase.cancellation}
    assert statuses == {"PENDING", "PROCESSING", "PAID"}


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
    """Every fault is told as it happens; what was broken already is not counted again."""
    victim, stop, lines = Something(answer), asyncio.Event(), list[str]()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        breaking = tasks.create_task(break_things([victim], Random(3), stop, lines.append))
        await victim.suffered.wait()
        stop.set()
    assert breaking.result().total() == counted
    assert {name for name, _ in breaking.result()} <= {"something"}
    assert len(lines) == 1
    assert "something-2" in lines[0]


def test_checkout_says_what_it_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """No orders at all, and a folder with something in it, are refused by name."""
    (tmp_path / "file").touch()
    for arguments, why in (
        (["--orders", "0"], "--orders: 0: a whole number, at least 1"),
        (["--keep", str(tmp_path)], f"--keep: {tmp_path}: is no empty folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(["checkout", *arguments])
        assert caught.value.code == 2
        assert why in capsys.readouterr().err
