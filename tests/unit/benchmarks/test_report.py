"""What the numbers of a benchmark come to, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import cli
from benchmarks.report import Promise, Report, Spread, Table, number, percentile


def report(*promises: Promise) -> Report:
    table = Table("sizes", ("name", "µs"), (("a", Spread((3.0, 1.0, 2.0))), ("long", None)))
    return Report("sizes", {"rounds": 3}, [table], promises, machine={"cpus": 2})


def test_a_spread_is_its_median_lowest_and_highest() -> None:
    """A spread shows the median and the range of all values, in whichever order they came."""
    assert str(Spread((1.061, 0.98, 1.1))) == "1.06 (0.980-1.10)"
    assert Spread((4.0, 1.0)).median == 2.5
    with pytest.raises(ValueError, match="no values"):
        Spread(())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (7, "7"),
        (12_345, "12,345"),
        (1234.5, "1,234"),
        (99.96, "100"),
        (1.0, "1.00"),
        (0.0123, "0.0123"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """A number is shown with three significant digits, whole ones and large ones without a point."""
    assert number(value) == text


def test_percentiles_are_values_that_were_seen() -> None:
    """A percentile is the smallest value that so many percent do not exceed."""
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert percentile([5.0], 99) == 5


def test_a_table_is_aligned() -> None:
    """Text stands to the left, numbers to the right, and a missing one is a dash."""
    assert report().text().splitlines() == [
        "bench sizes (rounds: 3)",
        "",
        "sizes",
        "name                µs",
        "----  ----------------",
        "a     2.00 (1.00-3.00)",
        "long                 -",
    ]


def test_promises_are_kept_up_to_their_limit() -> None:
    """A limit itself is kept, what lies beyond is missed, in either direction."""
    assert Promise("cost", 1.05, 1.05).kept
    assert str(Promise("cost", 1.06, 1.05)) == "MISSED: cost: 1.06, at most 1.05"
    assert str(Promise("gain", 10, 10, at_least=True)) == "kept: gain: 10, at least 10"
    assert not Promise("gain", 9.9, 10, at_least=True).kept


@pytest.mark.parametrize(
    ("measured", "options", "status"), [(1.0, ["--check"], 0), (1.1, ["--check"], 1), (1.1, [], 0)]
)
def test_only_check_fails_for_a_missed_promise(
    measured: float,
    options: list[str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missed promise is an exit status of 1 with --check, and of 0 without; the numbers are written in any case."""
    made = report(Promise("cost", measured, 1.05))
    benchmark = SimpleNamespace(__doc__="Sizes.", add_options=lambda parser: None, run=lambda options: made)
    monkeypatch.setattr(cli, "BENCHMARKS", {"sizes": benchmark})
    target = tmp_path / "numbers.json"
    assert cli.main(["sizes", "--json", str(target), *options]) == status
    written = json.loads(target.read_text())
    assert written["promises"] == [{"text": "cost", "measured": measured, "at_most": 1.05, "kept": measured <= 1.05}]
    assert written["tables"][0]["rows"][0] == {
        "name": "a",
        "µs": {"median": 2.0, "lowest": 1.0, "highest": 3.0, "values": [3.0, 1.0, 2.0]},
    }
    assert made.text() in capsys.readouterr().out
