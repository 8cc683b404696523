"""The page of charts: a person opens it anywhere, without a network."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from simulation.charts import bar_chart, line_chart, linear, logarithmic, quantiles
from simulation.page import as_html, table
from simulation.scenarios import scenario_named
from tests.simulation.gates import run
from tests.simulation.test_policies import FAST_FAILING

RESULTS = ("round_robin", "least_outstanding")


def test_the_page_is_complete_in_itself() -> None:
    """It loads nothing, shows each variant in the table, and every chart is well-formed SVG with a line for each."""
    results = [run("fast_failing", name, **FAST_FAILING) for name in RESULTS]
    page = as_html([(scenario_named("fast_failing"), results)], seed=7)
    assert not re.search(r"https?:|src=|<script|<link|@import", page)
    charts = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]  # noqa: S314
    assert len(charts) >= 5
    for chart in charts:
        assert len([*chart.iter("polyline"), *chart.iter("rect")]) == len(RESULTS)
    for name in RESULTS:
        assert f"{name}</td>" in page


def test_the_table_has_a_line_for_each_variant() -> None:
    """Numbers stand under their names."""
    lines = table([run("fast_failing", name, **FAST_FAILING) for name in RESULTS]).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(RESULTS)
    assert "p99 ms" in lines[0]


@pytest.mark.parametrize(("most", "ticks"), [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (7.0, [0, 2, 4, 6, 8]), (0.0, [0.0])])
def test_linear_axes_begin_at_zero_and_have_round_ticks(most: float, ticks: list[float]) -> None:
    """A handful of ticks, the last one not below the greatest value."""
    axis = linear("", [most])
    if most:
        assert axis.ticks == pytest.approx(ticks)
    assert axis.ticks[0] == 0
    assert axis.ticks[-1] >= most
    assert axis.place(axis.ticks[-1]) == 1.0


def test_logarithmic_axes_give_each_power_of_ten_the_same_room() -> None:
    """10 lies halfway between 1 and 100, and what lies outside is held at the edge."""
    axis = logarithmic("ms", [1.5, 80.0])
    assert axis.ticks == [1.0, 10.0, 100.0]
    assert axis.place(10.0) == pytest.approx(0.5)
    assert axis.place(1e9) == 1.0
    assert quantiles("").place(0.99) == pytest.approx(2 / 3)


def test_names_are_escaped() -> None:
    """A policy may have any name."""
    points = [(0.0, 1.0), (1.0, 2.0)]
    chart = line_chart("a < b", linear("x", [1.0]), linear("y", [2.0]), [("<&>", points)])
    assert ElementTree.fromstring(chart).find(".//polyline/title").text == "<&>"  # type: ignore[union-attr]  # noqa: S314
    assert "<&>" not in bar_chart("", linear("y", [2.0]), [("<&>", 2.0), ("none", None)])
