"""What a campaign asks for follows from the seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from campaigns import cli
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
