"""The command line: which scenario, for how long, with how many calls or orders."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.report import Report
from campaigns import catalog, checkout, freeze, kills, overload, restarts
from shop_services.runtime.settings import CATALOG_CACHES


class Scenario(Protocol):
    """What the module of a scenario has. Its docstring says what is done, and what is promised."""

    __doc__: str | None

    async def run(self, directory: Path, *, seconds: float, rate: float, seed: int) -> Report:
        """Break things for so many seconds, under `rate` calls a second. Files go into `directory`."""


SCENARIOS: dict[str, Scenario] = {"restarts": restarts, "kills": kills, "freeze": freeze}
"""Those about calls; the others are about orders, caches and HTTP, with options of their own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenario that the command line names. 0: all promises held; 1: one was missed; 2: misuse."""
    options = _parser().parse_args(arguments)
    if options.scenario is None:
        scenarios = {**SCENARIOS, "checkout": checkout, "catalog": catalog, "overload": overload}
        width = max(map(len, scenarios))
        for name, scenario in scenarios.items():
            print(f"{name:{width}}  {_summary(scenario.__doc__)}")
        print("\nbuildscripts/faults SCENARIO runs one; with --help it says what is done and what is promised.")
        return 0
    with _directory(options) as directory:
        report = asyncio.run(_play(options, directory))
    print(report.text())
    return 0 if all(promise.kept for promise in report.promises) else 1


def _play(options: argparse.Namespace, directory: Path) -> Coroutine[Any, Any, Report]:
    if options.scenario == "checkout":
        return checkout.run(
            directory,
            orders=options.orders,
            rate=options.rate,
            seed=options.seed,
            database=options.database,
            tell=_tell,
        )
    if options.scenario == "catalog":
        return catalog.run(
            directory,
            mode=options.mode,
            cache=options.cache,
            database=options.database,
            seconds=options.seconds,
            rate=options.rate,
            seed=options.seed,
            tell=_tell,
        )
    if options.scenario == "overload":
        return overload.run(directory, seconds=options.seconds, seed=options.seed, tell=_tell)
    scenario = SCENARIOS[options.scenario]
    return scenario.run(directory, seconds=options.seconds, rate=options.rate, seed=options.seed)


def _tell(line: str) -> None:
    print(line, flush=True)


@contextlib.contextmanager
def _directory(options: argparse.Namespace) -> Iterator[Path]:
    kept: Path | None = getattr(options, "keep", None)
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
    else:
        with tempfile.TemporaryDirectory(prefix="faults-") as directory:
            yield Path(directory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("faults", description="Breaks real processes under load.")
    scenarios = parser.add_subparsers(dest="scenario", metavar="SCENARIO")

    def add(name: str, doc: str | None) -> argparse.ArgumentParser:
        command = scenarios.add_parser(
            name, help=_summary(doc), description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_argument("--seed", type=int, default=1, help="what is broken, and when (default: %(default)s)")
        return command

    for name, scenario in SCENARIOS.items():
        command = add(name, scenario.__doc__)
        command.add_argument("--seconds", type=_positive, default=120.0, help="how long (default: %(default)g)")
        command.add_argument("--rate", type=_positive, default=200.0, help="calls a second (default: %(default)g)")
    command = add("checkout", checkout.__doc__)
    command.add_argument("--orders", type=_count, default=5000, help="how many (default: %(default)s)")
    command.add_argument("--rate", type=_positive, default=40.0, help="orders a second, at most (default: %(default)g)")
    _add_place(command)
    command = add("catalog", catalog.__doc__)
    command.add_argument("--mode", choices=CATALOG_CACHES, default="aside", help="of the cache (%(default)s)")
    command.add_argument("--cache", choices=("memory", "redis"), default="memory", help="that is shared (%(default)s)")
    command.add_argument("--seconds", type=_positive, default=60.0, help="how long (default: %(default)g)")
    command.add_argument("--rate", type=_positive, default=200.0, help="reads a second, at most (default: %(default)g)")
    _add_place(command)
    command = add("overload", overload.__doc__)
    command.add_argument("--seconds", type=_positive, default=60.0, help="of too much (default: %(default)g)")
    return parser


def _add_place(command: argparse.ArgumentParser) -> None:
    command.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql", help="(%(default)s)")
    command.add_argument("--keep", type=_empty, metavar="DIR", help="keep databases and logs here, in an empty folder")


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a number above 0")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number, at least 1")
    return number


def _empty(text: str) -> Path:
    path = Path(text)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise argparse.ArgumentTypeError(f"{text}: is no empty folder")
    return path


def _summary(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0]
