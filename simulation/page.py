"""The report of a run: a table for the terminal, JSON for programs, and one self-contained HTML page for a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape

from simulation.charts import COLOURS, bar_chart, line_chart, linear, logarithmic, quantiles
from simulation.measure import Result
from simulation.scenarios import Scenario

_COLUMNS: Sequence[tuple[str, Callable[[Result], str]]] = (
    ("p50 ms", lambda result: f"{1e3 * result.p50:.1f}"),
    ("p99 ms", lambda result: f"{1e3 * result.p99:.1f}"),
    ("p99.9 ms", lambda result: f"{1e3 * result.p999:.1f}"),
    ("failed", lambda result: f"{100 * result.failed / result.calls:.2f}%"),
    ("attempts a call", lambda result: f"{result.attempts / result.calls:.3f}"),
    ("Jain's index", lambda result: f"{result.jain:.3f}"),
    ("most/mean", lambda result: f"{result.most_over_mean:.2f}"),
    ("odd/fair", lambda result: "" if result.odd_share is None else f"{result.odd_share:.2f}"),
    ("peak", lambda result: f"{result.peak}"),
    ("peak/mean", lambda result: f"{result.peak_over_mean:.1f}"),
    ("herding", lambda result: f"{result.herding:.2f}"),
)

_LEGEND = """A latency is the time until a call ended, well or not. Jain's index and most/mean compare what servers had,
for weight and time (1 is all alike). odd/fair is what the odd servers got of their fair share, in the scenario's
window for that. peak is the most calls at one server at a time, peak/mean that over the mean of all. herding is the
variance over the mean of the calls at the servers: with random picks and no queues it would be 1."""

_STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:24px;max-width:1440px;color:#222;background:#fff}
h2{margin:40px 0 4px}table{border-collapse:collapse;margin:8px 0}td,th{padding:2px 10px;text-align:right}
td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f4f4f4}
svg{margin:6px 10px 6px 0;font:11px system-ui,sans-serif}svg .title{font-weight:600;font-size:13px}
svg .grid{stroke:#ddd;stroke-width:1}i{display:inline-block;width:12px;height:12px;margin-right:6px}p{max-width:75em}"""


def table(results: Sequence[Result]) -> str:
    """The numbers of one scenario, a line a variant."""
    rows = [["", *(name for name, _ in _COLUMNS)]]
    rows += [[result.variant, *(form(result) for _, form in _COLUMNS)] for result in results]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def as_json(results: Sequence[Result]) -> str:
    """All of it. The same results give the same text, to the byte."""
    return json.dumps([asdict(result) for result in results], indent=1, sort_keys=True) + "\n"


def as_html(played: Sequence[tuple[Scenario, Sequence[Result]]], seed: int) -> str:
    sections = "\n".join(_section(scenario, results) for scenario, results in played)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Simulated balancing, seed {seed}</title>
<style>{_STYLE}</style>
<h1>Simulated balancing</h1>
<p>Seed {seed}. Virtual time; the pickers, the statistics, outlier detection and retries are those of production.
{escape(_LEGEND)}</p>
{sections}
</html>
"""


def _section(scenario: Scenario, results: Sequence[Result]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in _COLUMNS)
    rows = "".join(_row(index, result) for index, result in enumerate(results))
    told = (
        f"{scenario.servers:,} servers of {scenario.slots} slots, {scenario.clients:,} clients, "
        f"{scenario.calls_per_second:,.0f} calls/s, a deadline of {scenario.deadline:g} s."
    )
    return f"""<h2 id="{scenario.name}">{scenario.name}</h2>
<p>{escape(scenario.told)} {told}</p>
<table><tr><th></th>{head}</tr>{rows}</table>
{"".join(_charts(results))}"""


def _row(index: int, result: Result) -> str:
    colour = COLOURS[index % len(COLOURS)]
    cells = "".join(f"<td>{form(result)}</td>" for _, form in _COLUMNS)
    return f'<tr><td><i style="background:{colour}"></i>{escape(result.variant)}</td>{cells}</tr>'


def _charts(results: Sequence[Result]) -> list[str]:
    curves = [(one.variant, [(part, 1e3 * latency) for part, latency in one.latency_curve]) for one in results]
    slow = [(one.variant, [(moment, 1e3 * latency) for moment, latency in one.p99_over_time]) for one in results]
    failures = [(one.variant, one.failures_over_time) for one in results]
    odd = [(one.variant, one.odd_share_over_time) for one in results if one.odd_share_over_time]
    servers = [
        (
            one.variant,
            [(index / (len(one.calls_by_server) - 1), calls) for index, calls in enumerate(one.calls_by_server)],
        )
        for one in results
    ]
    time = linear("seconds", _values(slow, 0))
    charts = [
        line_chart("Latency by quantile", quantiles("quantile"), logarithmic("ms", _values(curves)), curves),
        line_chart("p99 over time", time, logarithmic("ms", _values(slow)), slow),
        line_chart(
            "Calls of each server, sorted",
            linear("servers", [1.0], "%"),
            linear("over the mean", _values(servers)),
            servers,
        ),
        bar_chart(
            "Herding",
            linear("variance / mean", [one.herding for one in results]),
            [(one.variant, one.herding) for one in results],
        ),
    ]
    if any(one.failed for one in results):
        charts.append(line_chart("Failed calls over time", time, linear("share", _values(failures), "%"), failures))
    if odd:
        charts.append(
            line_chart("Calls at the odd servers over time", time, linear("over fair share", _values(odd)), odd)
        )
    return charts


def _values(series: Sequence[tuple[str, Sequence[tuple[float, float]]]], column: int = 1) -> list[float]:
    return [point[column] for _, points in series for point in points]
