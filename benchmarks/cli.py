"""The command line: which benchmark, with which options, and where the numbers go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks import cache, convergence, gateway, orders, overhead, pick, scale, tail
from benchmarks.report import Report

RESULTS = Path(__file__).parent / "results"


class Benchmark(Protocol):
    """What the module of a benchmark has. Its docstring says what is measured, and why that is fair."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser, /) -> None:
        """Add the options that only this benchmark has."""

    def run(self, options: argparse.Namespace, /) -> Report:
        """Measure; with `options.quick` just enough to see that everything works."""


BENCHMARKS: dict[str, Benchmark] = {
    "overhead": overhead,
    "tail": tail,
    "pick": pick,
    "convergence": convergence,
    "scale": scale,
    "orders": orders,
    "cache": cache,
    "gateway": gateway,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line names. 0: measured; 1: `--check`, and a promise is missed; 2: misuse."""
    options = _parser().parse_args(arguments)
    if options.benchmark is None:
        width = max(map(len, BENCHMARKS))
        for name, benchmark in BENCHMARKS.items():
            print(f"{name:{width}}  {_summary(benchmark)}")
        print(f"\nbuildscripts/bench NAME measures, prints a table and writes {_shown(RESULTS / 'NAME.json')};")
        print("buildscripts/bench NAME --help says what is measured and how.")
        return 0
    report = BENCHMARKS[options.benchmark].run(options)
    print(report.text())
    target = options.json or RESULTS / f"{options.benchmark}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report.json(), indent=2, ensure_ascii=False) + "\n")
    print(f"\nwritten to {_shown(target)}")
    return 1 if options.check and not all(promise.kept for promise in report.promises) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench", description="Measures ratios, interleaved in one run.")
    benchmarks = parser.add_subparsers(dest="benchmark", metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        command = benchmarks.add_parser(
            name,
            help=_summary(benchmark),
            description=benchmark.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--json", type=Path, metavar="FILE", help="where to write the numbers")
        command.add_argument("--check", action="store_true", help="end with 1 if a promise is missed")
        command.add_argument("--quick", action="store_true", help="a few seconds, to see that it works: no numbers")
        benchmark.add_options(command)
    return parser


def _summary(benchmark: Benchmark) -> str:
    return (benchmark.__doc__ or "").strip().splitlines()[0]


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
