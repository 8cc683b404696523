"""`buildscripts/faults checkout`, with as many orders as a test may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns import checkout


@pytest.mark.parametrize(("database", "orders"), [("postgresql", 120), ("sqlite", 80)])
async def test_checkout_survives_every_crash(database: str, orders: int, tmp_path: Path) -> None:
    """While processes, broker and database are killed, frozen and cut off, every order ends as it is promised."""
    report = await checkout.run(tmp_path, orders=orders, rate=15, seed=4, database=database)
    assert all(promise.kept for promise in report.promises), report.text()
