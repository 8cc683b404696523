"""The simulator itself: it agrees with queueing theory, repeats exactly, and its servers behave as they say."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from math import log
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from grpc_registry import Instance
from simulation.cli import main
from simulation.clock import VirtualClock
from simulation.page import as_json
from simulation.server import Server
from tests.simulation.gates import run_anew

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"servers": 4, "clients": 3, "calls_per_second": 200.0, "seconds": 6.0}


class Call:
    """A job that notes its answers."""

    def __init__(self, work: float) -> None:
        self.work = work
        self.answers: list[StatusCode] = []

    def answer(self, code: StatusCode) -> None:
        self.answers.append(code)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def server(clock: VirtualClock) -> Server:
    return Server(clock, random.Random(1), Instance("product", "10.0.0.1:1"), slots=1)


def test_a_single_queue_is_as_theory_has_it() -> None:
    """M/M/1 with 50 arrivals/s and service of 10 ms: half of the calls take more than 13.9 ms, 1% more than 92 ms."""
    result = run_anew("steady", "random", servers=1, slots=1, calls_per_second=50.0, seconds=300.0, deadline=20.0)
    network = 2 * 0.000_25
    assert result.p50 == pytest.approx(log(2) / 50 + network, rel=0.05)
    assert result.p99 == pytest.approx(log(100) / 50 + network, rel=0.15)
    assert result.failed == 0


@pytest.mark.parametrize("scenario", ["rolling_restart", "machine_lost"])
def test_the_same_seed_gives_the_same_result(scenario: str) -> None:
    """To the byte; another seed gives another one."""
    variant = "least_outstanding+outlier+slow_start"
    first, second = (as_json([run_anew(scenario, variant, **SMALL)]) for _ in range(2))
    assert first == second
    assert first != as_json([run_anew(scenario, variant, seed=8, **SMALL)])


def test_another_process_gives_the_same_result(tmp_path: Path) -> None:
    """Nothing depends on the order of sets of texts, which differs from one process to the next."""
    written = []
    for hash_seed in "1", "2":
        out = tmp_path / hash_seed
        command = [
            sys.executable,
            "-m",
            "simulation",
            "one_slow",
            "--policy",
            "peak_ewma",
            "ring_hash",
            "--out",
            str(out),
        ]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
        written.append([(out / name).read_bytes() for name in ("results.json", "index.html")])
    assert written[0] == written[1]


def test_calls_queue_for_a_slot(clock: VirtualClock, server: Server) -> None:
    """With one slot the second call begins when the first one ends."""
    first, second = Call(1.0), Call(1.0)
    server.arrive(first)
    server.arrive(second)
    clock.run(1.5)
    assert (first.answers, second.answers) == ([StatusCode.OK], [])
    clock.run(2.0)
    assert second.answers == [StatusCode.OK]


def test_a_cancelled_call_frees_its_slot(clock: VirtualClock, server: Server) -> None:
    """The next one begins at once, and nobody answers the one that left."""
    first, second = Call(9.0), Call(1.0)
    server.arrive(first)
    server.arrive(second)
    clock.run(1.0)
    server.leave(first)
    clock.run(20.0)
    assert (first.answers, second.answers) == ([], [StatusCode.OK])


def test_a_frozen_server_answers_after_it_thaws(clock: VirtualClock, server: Server) -> None:
    """What it finished, and what came meanwhile; nothing before."""
    first, second = Call(1.0), Call(1.0)
    server.arrive(first)
    server.freeze()
    server.arrive(second)
    clock.run(5.0)
    assert (first.answers, second.answers) == ([], [])
    server.thaw()
    clock.run(6.0)
    assert (first.answers, second.answers) == ([StatusCode.OK], [StatusCode.OK])


def test_a_crash_loses_every_call(clock: VirtualClock, server: Server) -> None:
    """Those in a slot, those in the queue, and those that come later."""
    calls = [Call(1.0), Call(1.0), Call(1.0)]
    server.arrive(calls[0])
    server.arrive(calls[1])
    server.stop()
    server.arrive(calls[2])
    clock.run(5.0)
    assert [call.answers for call in calls] == [[StatusCode.UNAVAILABLE]] * 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "unknown scenario 'nowhere'; known: steady"),
        (["steady", "--policy", "best"], "unknown policy 'best'; known: least_outstanding"),
        (["steady", "--policy", "random+luck"], "unknown feature 'luck' of 'random+luck'; known: hedging"),
    ],
)
def test_the_command_names_what_it_does_not_know(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A wrong name is refused, with those that would do, before anything is played."""
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
