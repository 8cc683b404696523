"""The scenarios of `buildscripts/faults`, for as long as a test may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.report import Report
from campaigns import freeze, kills, restarts
from campaigns.cli import Scenario


def kept(report: Report) -> bool:
    return all(promise.kept for promise in report.promises)


@pytest.mark.parametrize(
    ("scenario", "seconds"), [(restarts, 9), (kills, 9), (freeze, 16)], ids=["restarts", "kills", "freeze"]
)
async def test_every_promise_is_kept(scenario: Scenario, seconds: float, tmp_path: Path) -> None:
    """While servers are restarted, killed or frozen under load, what the README promises of their calls holds."""
    report = await scenario.run(tmp_path, seconds=seconds, rate=150, seed=1)
    assert kept(report), report.text()
