"""buildscripts/bench measures for real, and writes what it measured. What the numbers are is its own business."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gateway.load import processor_seconds

ROOT = Path(__file__).parents[3]

COLUMNS = {
    "overhead": [("in flight", "ours ÷ C-core", "C-core ÷ itself", "C-core, µs a call", "ours, µs a call")],
    "tail": [
        ("clients", "channel", "p50", "p99", "C-core's p99 ÷ ours"),
        ("clients", "channel", "first 2 s", "then"),
    ],
    "pick": [
        ("policy", "picked", "10", "100", "1,000", "10,000", "dearest ÷ cheapest"),
        ("policy", "10", "100", "1,000", "10,000"),
    ],
    "convergence": [("event", "p50", "p95", "max", "median (lowest-highest)")],
    "scale": [
        ("watched", "instances", "ms", "CPU ms"),
        ("watched", "instances", "ms", "CPU ms", "peak KiB"),
        ("endpoints", "KiB each, resident", "s until all are connected", "CPU ms each"),
    ],
    "orders": [
        ("database", "FULFILLED", "bare JetStream", "FULFILLED ÷ bare"),
        ("database", "time", "to FULFILLED", "bare JetStream", "FULFILLED ÷ bare"),
        ("what", "SQLite"),
        ("process", "SQLite, before", "SQLite, most"),
    ],
    "cache": [
        ("policy", "what", "ours", "cachetools", "aiocache", "aiocache, TTL", "aiocache, timeout=5"),
        ("policy", "what", "cachetools", "aiocache", "aiocache, TTL", "aiocache, timeout=5"),
        ("policy", "what", "which", "1,000", "10,000", "dearest ÷ cheapest", "cachetools'"),
        ("cache", "policy", "filled", "after evictions"),
        ("policy", "cached", "ours", "reference", "hits more"),
        ("database", "cache", "reads a second", "÷ off", "hits", "hits in the shared one", "loads"),
        ("database", "cache", "reads a second", "÷ off"),
        ("processes", "reads", "loads", "most loads of a process", "ms until all had it"),
    ],
    "gateway": [
        ("connections", "gateway ÷ gRPC", "gateway ÷ Envoy", "gateway", "Envoy", "gRPC"),
        ("connections", "time", "gateway ÷ gRPC", "gateway ÷ Envoy", "gateway", "Envoy", "gRPC"),
        (
            "connections",
            "gateway ÷ Envoy",
            "gateway",
            "Envoy",
            "services, by gateway",
            "services, by Envoy",
            "services, by gRPC",
        ),
    ],
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "buildscripts/bench"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_benchmark_writes_what_it_measured(name: str, tmp_path: Path) -> None:
    """Every benchmark prints its tables and writes them as JSON, with numbers above zero in every spread."""
    result = bench(name, "--quick", "--json", str(tmp_path / "out" / "numbers.json"))
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert written["benchmark"] == name
    assert set(written["machine"]) >= {"python", "grpcio", "cpus"}
    assert [tuple(table["rows"][0]) for table in written["tables"]] == COLUMNS[name]
    for table in written["tables"]:
        assert table["title"] in result.stdout
        for row in table["rows"]:
            check_spreads(row)
    for promise in written["promises"]:
        assert promise["kept"] is (
            promise["measured"] >= promise["at_least"]
            if "at_least" in promise
            else promise["measured"] <= promise["at_most"]
        )
        assert promise["text"] in result.stdout


def test_the_blocking_channel_is_measured(tmp_path: Path) -> None:
    """With --sync the blocking channels are measured, by threads, and nothing is promised of them."""
    result = bench("overhead", "--sync", "--quick", "--in-flight", "4", "--json", str(tmp_path / "numbers.json"))
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "numbers.json").read_text())
    assert written["settings"]["channels"] == "blocking"
    (row,) = written["tables"][0]["rows"]
    assert row["in flight"] == 4
    assert row["ours, µs a call"]["lowest"] > 0
    assert written["promises"] == []


def check_spreads(row: Mapping[str, Any]) -> None:
    for cell in row.values():
        if isinstance(cell, dict):
            assert 0 <= cell["lowest"] <= cell["median"] <= cell["highest"]
            assert cell["values"]


def test_little_processor_time_is_not_none() -> None:
    """What a program needs for a few requests is more than nothing: what another needs is divided by it."""
    pid = str(os.getpid())
    before = processor_seconds(pid)
    assert processor_seconds(pid) > before


def test_without_a_name_it_lists_the_benchmarks() -> None:
    """Without a name all benchmarks are listed, each with what it measures."""
    result = bench()
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[: len(COLUMNS)]] == list(COLUMNS)


def test_an_unknown_benchmark_is_refused() -> None:
    """A name that is none is an error that names those there are."""
    result = bench("nonsense")
    assert result.returncode == 2
    assert "overhead" in result.stderr
