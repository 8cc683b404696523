"""The command line: which scenario, for how long, with how many calls."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.report import Report
from campaigns import freeze, kills, restarts


class Scenario(Protocol):
    """What the module of a scenario has. Its docstring says what is done, and what is promised."""

    __doc__: str | None

    async def run(self, directory: Path, *, seconds: float, rate: float, seed: int) -> Report:
        """Break things for so many seconds, under `rate` calls a second. Files go into `directory`."""


SCENARIOS: dict[str, Scenario] = {"restarts": restarts, "kills": kills, "freeze": freeze}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenario that the command line names. 0: all promises held; 1: one was missed; 2: misuse."""
    options = _parser().parse_args(arguments)
    if options.scenario is None:
        width = max(map(len, SCENARIOS))
        for name, scenario in SCENARIOS.items():
            print(f"{name:{width}}  {_summary(scenario)}")
        print("\nbuildscripts/faults SCENARIO runs one; with --help it says what is done and what is promised.")
        return 0
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        run = SCENARIOS[options.scenario].run
        report = asyncio.run(run(Path(directory), seconds=options.seconds, rate=options.rate, seed=options.seed))
    print(report.text())
    return 0 if all(promise.kept for promise in report.promises) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("faults", description="Breaks real processes under load.")
    scenarios = parser.add_subparsers(dest="scenario", metavar="SCENARIO")
    for name, scenario in SCENARIOS.items():
        command = scenarios.add_parser(
            name,
            help=_summary(scenario),
            description=scenario.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--seed", type=int, default=1, help="what is broken, and when (default: %(default)s)")
        command.add_argument("--seconds", type=_positive, default=120.0, help="how long (default: %(default)g)")
        command.add_argument("--rate", type=_positive, default=200.0, help="calls a second (default: %(default)g)")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a number above 0")
    return number


def _summary(scenario: Scenario) -> str:
    return (scenario.__doc__ or "").strip().splitlines()[0]
