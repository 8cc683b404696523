"""What a benchmark found: rows of numbers with their spread, and the promises that they keep or miss."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated measurements of one thing: the median, with the lowest and the highest."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a spread of no values")

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def lowest(self) -> float:
        return min(self.values)

    @property
    def highest(self) -> float:
        return max(self.values)

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.lowest)}-{number(self.highest)})"


Cell = str | int | float | Spread | None
"""A value in a table; None where there is none."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A number that the project gives its word on: `measured` must be at most (or at least) `limit`."""

    text: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        return (
            f"{'kept' if self.kept else 'MISSED'}: {self.text}: {number(self.measured)}, {bound} {number(self.limit)}"
        )


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the same columns; a column's name holds its unit."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run found, and how it was made."""

    name: str
    settings: Mapping[str, Any]
    tables: Sequence[Table]
    promises: Sequence[Promise] = ()
    notes: Sequence[str] = ()
    command: str = "bench"
    machine: Mapping[str, Any] = field(default_factory=lambda: machine())

    def text(self) -> str:
        """The report for a person."""
        parts = [f"{name}: {value}" for name, value in self.settings.items()]
        parts = [f"{self.command} {self.name} ({'; '.join(parts)})"]
        for table in self.tables:
            parts += ["", table.title, *_aligned(table)]
        if self.notes:
            parts += ["", *self.notes]
        if self.promises:
            parts += ["", *map(str, self.promises)]
        return "\n".join(parts)

    def json(self) -> dict[str, Any]:
        """The report for a program. Each spread has its median, lowest, highest and all values."""
        return {
            "benchmark": self.name,
            "settings": dict(self.settings),
            "machine": dict(self.machine),
            "tables": [
                {
                    "title": table.title,
                    "rows": [
                        {column: _json(cell) for column, cell in zip(table.columns, row, strict=True)}
                        for row in table.rows
                    ],
                }
                for table in self.tables
            ],
            "promises": [
                {
                    "text": promise.text,
                    "measured": promise.measured,
                    "at_least" if promise.at_least else "at_most": promise.limit,
                    "kept": promise.kept,
                }
                for promise in self.promises
            ],
            "notes": list(self.notes),
        }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` percent of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def number(value: float) -> str:
    """Three significant digits; whole numbers, and from 100 on, without a point."""
    if isinstance(value, int) or abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if value else "0"


def _aligned(table: Table) -> list[str]:
    lines = [table.columns, *(tuple(map(_shown, row)) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = [isinstance(cell, str) for cell in table.rows[0]] if table.rows else [True] * len(widths)

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if is_text else cell.rjust(width)
            for cell, width, is_text in zip(cells, widths, left, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return [line(lines[0]), line(["-" * width for width in widths]), *map(line, lines[1:])]


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else str(cell) if isinstance(cell, Spread) else number(cell)


def _json(cell: Cell) -> Any:
    if isinstance(cell, Spread):
        return {"median": cell.median, "lowest": cell.lowest, "highest": cell.highest, "values": list(cell.values)}
    return cell
