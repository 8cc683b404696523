"""Charts as SVG text: lines and bars, enough to compare some series by eye, and nothing that needs a library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 24, 30, 40
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#7f3fbf", "#444444", "#e03030", "#00a0a0")
"""Told apart by most people who do not see all colours (Okabe and Ito), then some more."""


@dataclass(frozen=True)
class Axis:
    """How numbers become places. `scale` makes distances even: the identity, a logarithm …"""

    label: str
    ticks: Sequence[float]
    scale: Callable[[float], float]
    unit: str = ""

    def place(self, value: float) -> float:
        """From 0 at the first tick to 1 at the last; values beyond them are held there."""
        low, high = self.scale(self.ticks[0]), self.scale(self.ticks[-1])
        bounded = min(max(value, self.ticks[0]), self.ticks[-1])
        return (self.scale(bounded) - low) / (high - low)


def linear(label: str, values: Sequence[float], unit: str = "") -> Axis:
    """From 0 to a round number above all values."""
    most = max([*values, 1e-9])
    step = 10.0 ** math.floor(math.log10(most))
    step = next(step * part for part in (0.2, 0.5, 1, 2) if most <= step * part * 6)
    return Axis(label, [step * index for index in range(math.ceil(most / step - 1e-9) + 1)], lambda value: value, unit)


def logarithmic(label: str, values: Sequence[float], unit: str = "") -> Axis:
    """Over the powers of ten around all values, which must be positive."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(label, [10.0**power for power in range(low, max(high, low + 1) + 1)], math.log10, unit)


def quantiles(label: str) -> Axis:
    """Each nine takes as much room as the one before: 90%, 99%, 99.9%."""
    return Axis(label, [0.0, 0.5, 0.9, 0.99, 0.999], lambda part: -math.log10(1 - part), "%")


def line_chart(title: str, across: Axis, up: Axis, series: Sequence[tuple[str, Points]]) -> str:
    """One line for each series; the first has the first colour, in every chart."""
    marks = []
    for index, (name, points) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{_x(across.place(x)):.1f},{_y(up.place(y)):.1f}" for x, y in points)
        marks.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return _chart(title, across, up, marks)


def bar_chart(title: str, up: Axis, values: Sequence[tuple[str, float | None]]) -> str:
    """One bar for each value, in the colours of the lines; no value, no bar."""
    marks = []
    width = (WIDTH - _LEFT - _RIGHT) / len(values)
    for index, (name, value) in enumerate(values):
        if value is None:
            continue
        top, colour = _y(up.place(value)), COLOURS[index % len(COLOURS)]
        left, height = _LEFT + width * (index + 0.15), _y(0) - top
        marks.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width * 0.7:.1f}" height="{height:.1f}" fill="{colour}">'
            f"<title>{escape(name)}: {value:.3g}</title></rect>"
            f'<text x="{left + width * 0.35:.1f}" y="{top - 4:.1f}" text-anchor="middle">{value:.3g}</text>'
        )
    return _chart(title, None, up, marks)


def _chart(title: str, across: Axis | None, up: Axis, marks: Sequence[str]) -> str:
    middle = f"{_y(0.5):.1f}"
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<text x="{_LEFT}" y="16" class="title">{escape(title)}</text>',
            f'<text transform="translate(12,{middle}) rotate(-90)" text-anchor="middle">{escape(up.label)}</text>',
            *_grid_up(up),
            *([] if across is None else _grid_across(across)),
            *marks,
            "</svg>",
        ]
    )


def _grid_up(up: Axis) -> Iterator[str]:
    for tick in up.ticks:
        y = _y(up.place(tick))
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" class="grid"/>'
        yield f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_label(tick, up.unit)}</text>'


def _grid_across(across: Axis) -> Iterator[str]:
    for tick in across.ticks:
        x = _x(across.place(tick))
        yield f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_y(0):.1f}" class="grid"/>'
        yield f'<text x="{x:.1f}" y="{_y(0) + 15:.1f}" text-anchor="middle">{_label(tick, across.unit)}</text>'
    yield f'<text x="{_x(0.5):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across.label)}</text>'


def _x(place: float) -> float:
    return _LEFT + place * (WIDTH - _LEFT - _RIGHT)


def _y(place: float) -> float:
    return HEIGHT - _BOTTOM - place * (HEIGHT - _TOP - _BOTTOM)


def _label(value: float, unit: str) -> str:
    return f"{100 * value:g}%" if unit == "%" else f"{value:g}{unit}"
