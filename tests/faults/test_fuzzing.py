"""The fuzzers of `buildscripts/fuzz`, for as long as a test may take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuzzing.cli import FUZZERS

SECONDS = 55.0


@pytest.mark.parametrize("name", FUZZERS)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    """A minute of input that nobody means well with breaks no promise."""
    report, findings = FUZZERS[name].run(1, SECONDS, tmp_path, print)
    assert not findings, f"{report.text()}\n{json.dumps([list(finding.inputs) for finding in findings])[:5000]}"
