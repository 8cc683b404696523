"""What the fuzzers of real servers have found stays mended."""

from __future__ import annotations

from pathlib import Path

from fuzzing import frames, http
from fuzzing.found import inputs_of, kept


async def test_frames_that_were_found_stay_mended(tmp_path: Path) -> None:
    """Every promise is kept by a gRPC server for all frames that once broke one."""
    paths = kept("frames")
    assert paths
    assert await frames.replay([one for path in paths for one in inputs_of(path)], tmp_path) == []


async def test_requests_that_were_found_stay_mended(tmp_path: Path) -> None:
    """Every promise is kept by the gateway for all bytes that once broke one."""
    paths = kept("http")
    assert paths
    assert await http.replay([one for path in paths for one in inputs_of(path)], tmp_path) == []
