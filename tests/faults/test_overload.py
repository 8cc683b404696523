"""`buildscripts/faults overload`, for as long as a test may take."""

from __future__ import annotations

from pathlib import Path

from campaigns import overload

# `buildscripts/faults overload` asks five times too much and demands 0.8 of the peak. On two cores that the generator
# and the shop share it does not find that each time, nor can the generator always ask so much. A test must not depend
# on it: without a limit next to nothing would be answered, and that it finds here too.
TIMES = 3.0
LEAST_GOODPUT = 0.5


async def test_too_much_does_no_harm(tmp_path: Path) -> None:
    """Asked for much more than it can do, the gateway does what it can, in bounded time and memory, and recovers."""
    report = await overload.run(tmp_path, seconds=15, seed=1, step_seconds=2, least_goodput=LEAST_GOODPUT, times=TIMES)
    assert all(promise.kept for promise in report.promises), report.text()
