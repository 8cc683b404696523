"""The command line: which fuzzer, for how long, from which seed, or which kept inputs again."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Report
from fuzzing import frames, http, transcoder
from fuzzing.found import KEPT, Finding, inputs_of
from fuzzing.wire import hunt


@dataclass(frozen=True, slots=True)
class Fuzzer:
    """`run(seed, seconds, directory, tell)` looks for something to find; `replay(inputs, directory)` looks again."""

    doc: str
    run: Callable[[int, float, Path, Callable[[str], None]], tuple[Report, list[Finding]]]
    replay: Callable[[Sequence[Any], Path], list[str]]


def _transcoder(
    seed: int, seconds: float, _directory: Path, tell: Callable[[str], None]
) -> tuple[Report, list[Finding]]:
    return transcoder.report(transcoder.search(seed, seconds, tell), seconds=seconds, seed=seed)


def _frames(seed: int, seconds: float, directory: Path, tell: Callable[[str], None]) -> tuple[Report, list[Finding]]:
    search = asyncio.run(frames.search(seed, seconds, directory, tell))
    return hunt.report("frames", search, seconds=seconds, seed=seed)


def _http(seed: int, seconds: float, directory: Path, tell: Callable[[str], None]) -> tuple[Report, list[Finding]]:
    search = asyncio.run(http.search(seed, seconds, directory, tell))
    return hunt.report("http", search, seconds=seconds, seed=seed)


FUZZERS = {
    "transcoder": Fuzzer(transcoder.__doc__ or "", _transcoder, lambda inputs, _: transcoder.replay(inputs)),
    "frames": Fuzzer(frames.__doc__ or "", _frames, lambda inputs, at: asyncio.run(frames.replay(inputs, at))),
    "http": Fuzzer(http.__doc__ or "", _http, lambda inputs, at: asyncio.run(http.replay(inputs, at))),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names. 0: every promise was kept; 1: something was found; 2: misuse."""
    options = _parser().parse_args(arguments)
    fuzzer = FUZZERS[options.fuzzer]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        if options.replay is not None:
            return _replay(fuzzer, options.replay, Path(directory))
        report, findings = fuzzer.run(options.seed, options.seconds, Path(directory), _tell)
    print(report.text())
    for finding in findings:
        if (path := finding.keep(options.keep or KEPT / options.fuzzer)) is not None:
            print(f"kept: {path}   again: buildscripts/fuzz {options.fuzzer} --replay {path}")
    return 1 if findings else 0


def _replay(fuzzer: Fuzzer, path: Path, directory: Path) -> int:
    wrong = fuzzer.replay(inputs_of(path), directory)
    print("\n".join(wrong) if wrong else "nothing is wrong")
    return 1 if wrong else 0


def _tell(line: str) -> None:
    print(line.encode(errors="backslashreplace").decode(), flush=True)  # half of a surrogate pair has no UTF-8


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fuzz", description="Looks for input that breaks a promise.")
    fuzzers = parser.add_subparsers(dest="fuzzer", metavar="FUZZER", required=True)
    for name, fuzzer in FUZZERS.items():
        command = fuzzers.add_parser(
            name,
            help=fuzzer.doc.strip().splitlines()[0],
            description=fuzzer.doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--seconds", type=_positive, default=600.0, help="how long (default: %(default)g)")
        command.add_argument("--seed", type=int, default=1, help="what the inputs follow from (default: %(default)s)")
        command.add_argument("--keep", type=Path, metavar="DIR", help="where found inputs go (default: tests/fuzz)")
        command.add_argument("--replay", type=_file, metavar="FILE", help="play kept inputs again, and nothing else")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a number above 0")
    return number


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: is no file")
    return path
