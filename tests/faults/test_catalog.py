"""`buildscripts/faults catalog`, for as long as a test may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns import catalog


@pytest.mark.parametrize(
    ("mode", "cache", "database"),
    [("aside", "memory", "postgresql"), ("through", "redis", "sqlite"), ("behind", "memory", "postgresql")],
)
async def test_nothing_read_is_older_than_promised(mode: str, cache: str, database: str, tmp_path: Path) -> None:
    """While product and cache processes die, every read is as fresh as its mode promises, and no write is lost."""
    report = await catalog.run(tmp_path, mode=mode, cache=cache, database=database, seconds=15, rate=150, seed=11)
    assert all(promise.kept for promise in report.promises), report.text()
